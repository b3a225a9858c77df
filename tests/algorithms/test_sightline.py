"""Our own rule, by hand: a blend that stops where the bound on concentration is met."""

import math

import pytest
import torch
from torch.testing import assert_close

from sightline.algorithms import Sightline, ViewScores
from sightline.views import AddNoise, Blind, Gray

MASK = torch.tensor([[True] * 4 + [False], [True] * 5])


def scores(kl, hide="gray"):
    return {hide: ViewScores(torch.full(kl.shape, -1.0), kl)}


def one_dependent_token():
    """log(1 + S) is 0, 0, 0, 2 in row 0, so v is 0, 0, 0, 4 and var(v) = 3; 0 in row 1."""
    kl = torch.zeros(2, 5)
    kl[0, 3], kl[0, 4] = math.expm1(2), 50.0  # the last is padding
    return kl


def test_credit_moves_as_far_as_the_bound_allows():
    table = scores(one_dependent_token())
    # v itself has an effective share of 1 / mean(v^2) = 1/4
    found = Sightline(0.25, noise_floor=0.0).token_weights(table, MASK)
    assert_close(found[0], torch.tensor([0.0, 0, 0, 4, 0]))
    # 1/2 wants mean(w^2) = 2: 1 + 3 a^2 = 2
    blend = 1 / math.sqrt(3)
    found = Sightline(0.5, noise_floor=0.0).token_weights(table, MASK)
    assert_close(found[0], torch.tensor([1 - blend] * 3 + [1 + 3 * blend, 0]))
    assert_close(found[0].square().sum() / 4, torch.tensor(2.0))
    assert_close(Sightline(1.0).token_weights(table, MASK), MASK.float())


def test_credit_never_moves_further_than_dependency_does():
    # v is 1/2, 1, 1, 3/2 (log(1 + S) = 1, 2, 2, 3): an effective share of 1 / 1.125 is far above
    kl = torch.expm1(torch.tensor([[1.0, 2, 2, 3, 0], [0, 0, 0, 0, 0]]))
    found = Sightline(0.1, noise_floor=0.0, score_clamp=None).token_weights(scores(kl), MASK)
    assert_close(found[0], torch.tensor([0.5, 1, 1, 1.5, 0]))


def test_without_dependency_above_the_noise_credit_is_plain():
    kl = torch.zeros(2, 5)
    kl[1] = torch.tensor([0.02, 0.01, 0.0, 0.03, 0.04])
    assert_close(Sightline(0.25, noise_floor=0.05).token_weights(scores(kl), MASK), MASK.float())
    # 0.05 above a floor of 0.01 is 0.04, one token of five
    kl[1] = torch.tensor([0.01, 0.01, 0.0, 0.01, 0.05])
    found = Sightline(0.2, noise_floor=0.01).token_weights(scores(kl), MASK)
    assert_close(found[1], torch.tensor([0.0, 0, 0, 0, 5]))


def test_a_score_counts_up_to_the_clamp():
    kl = torch.tensor([[3.0, 30.0, 0.0, 0.0, 0.0], [0.0] * 5])
    found = Sightline(0.1, noise_floor=0.0, score_clamp=3.0).token_weights(scores(kl), MASK)
    assert_close(found[0], torch.tensor([2.0, 2, 0, 0, 0]))


def test_the_sampled_estimator():
    # S = e^d - d - 1: 1 for the root of that, 0 for d = 0
    ratios = torch.zeros(2, 5)
    ratios[0, 1] = -2.0
    table = {"gray": ViewScores(ratios)}
    rule = Sightline(0.25, noise_floor=0.0, estimator="k3")
    assert_close(rule.token_weights(table, MASK)[0], torch.tensor([0.0, 4, 0, 0, 0]))
    assert not rule.needs_exact_kl and Sightline().needs_exact_kl
    with pytest.raises(ValueError, match="needs exact scores"):
        Sightline().token_weights(table, MASK)


@pytest.mark.parametrize(
    ("hide", "view"), [("gray", Gray()), ("blind", Blind()), ("noise", AddNoise(1.0))]
)
def test_what_is_in_the_images_place(hide, view):
    rule = Sightline(0.25, noise_floor=0.0, hide=hide)
    assert rule.views() == {hide: view} and rule.row_local
    found = rule.token_weights(scores(one_dependent_token(), hide), MASK)
    assert_close(found[0], torch.tensor([0.0, 0, 0, 4, 0]))
    with pytest.raises(ValueError, match="scores lack"):
        rule.token_weights({}, MASK)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"effective_share": 0.0}, r"effective_share must be in \(0, 1\], got 0.0"),
        ({"effective_share": 1.5}, r"effective_share must be in \(0, 1\], got 1.5"),
        ({"noise_floor": -1.0}, "noise_floor must be at least 0 and finite, got -1.0"),
        ({"noise_floor": float("nan")}, "noise_floor must be at least 0 and finite, got nan"),
        ({"hide": "grey"}, "hide must be one of gray, blind, noise, got 'grey'"),
        ({"estimator": "k2"}, "estimator must be one of"),
        ({"score_clamp": 0.0}, "score_clamp must be above 0"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(ValueError, match=said):
        Sightline(**settings)
