import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch.testing import assert_close

from sightline import (
    ALGORITHMS,
    PGPO,
    Algorithm,
    Blind,
    ViewScores,
    response_mean,
    sampled_kl,
    token_advantages,
)

INF, NAN = float("inf"), float("nan")
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()


@dataclass(frozen=True)
class PowerWeights(Algorithm):
    """A method of a user's own: dependency to a power, mean 1 over its response."""

    power: float = 1.0

    def views(self):
        return {"blind": Blind()}

    def token_weights(self, scores, mask):
        dependency = sampled_kl(scores["blind"].log_ratio) ** self.power
        mean = response_mean(dependency, mask)[:, None]
        weights = torch.where(mean > 1e-6, dependency / mean.clamp(min=1e-6), 1.0)
        return weights.masked_fill(~mask, 0)


@dataclass(frozen=True, eq=False)
class Returns(Algorithm):
    """Weights every batch by one fixed tensor."""

    weights: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones(1))

    def token_weights(self, scores, mask):
        return self.weights


# --- plain GRPO


def test_plain_grpo_scores_no_view_and_weighs_every_token_one():
    assert Algorithm().views() == {}
    assert Algorithm().token_weights({}, MASK).equal(MASK.float())


# --- token_advantages


def test_advantages_are_spread_over_tokens_by_weight():
    weights = torch.tensor([[0.5, 2.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    spread = token_advantages(Returns(weights), torch.tensor([2.0, -1.0]), {}, MASK)
    assert_close(spread, torch.tensor([[1.0, 4.0, 0.0, 0.0], [-3.0, -1.0, 0.0, 0.0]]))


def test_a_method_of_a_users_own_needs_no_more_than_a_subclass():
    # x     2, 0, -2          k3  4.389056, 0, 1.135335    mean 1.841464
    # w     2.383460, 0, 0.616540                          second row: no dependency, so 1
    x = torch.tensor([[2.0, 0.0, -2.0, NAN], [0.0, 0.0, INF, NAN]])
    scores = {"blind": ViewScores(x)}
    spread = token_advantages(PowerWeights(), torch.tensor([1.0, -2.0]), scores, MASK)
    assert_close(spread, torch.tensor([[2.383460, 0.0, 0.616540, 0.0], [-2.0, -2.0, 0.0, 0.0]]))


def test_token_advantages_are_constants_even_if_the_method_is_not():
    x = torch.randn(2, 4, requires_grad=True)
    advantages = torch.ones(2, requires_grad=True)
    spread = token_advantages(PowerWeights(), advantages, {"blind": ViewScores(x)}, MASK)
    assert not spread.requires_grad
    assert PowerWeights().token_weights({"blind": ViewScores(x)}, MASK).requires_grad


def test_advantages_of_the_wrong_shape_raise_in_production(annotations_off):  # T33, T85
    square = torch.ones(3, 3).bool()
    # the control: with B = T an advantage per token is taken for one per response without a word
    assert (torch.ones(3, 3)[:, None] * square.float()).shape == (3, 3, 3)
    with pytest.raises(ValueError, match=r"one per response, \(3,\), got \(3, 3\)"):
        token_advantages(Algorithm(), torch.ones(3, 3), {}, square)
    with pytest.raises(ValueError, match=r"one per response, \(3,\), got \(2,\)"):
        token_advantages(Algorithm(), torch.ones(2), {}, square)


def test_a_mask_that_is_no_mask_raises_in_production(annotations_off):
    with pytest.raises(ValueError, match=r"mask must be boolean, got torch\.int64"):
        token_advantages(Algorithm(), torch.ones(2), {}, MASK.long())
    with pytest.raises(ValueError, match=r"two axes, \(B, T\), got the shape \(2,\)"):
        token_advantages(Algorithm(), torch.ones(2), {}, MASK[:, 0])


def test_scores_of_another_shape_raise_in_production(annotations_off):
    scores = {"blind": ViewScores(torch.zeros(2, 3))}
    with pytest.raises(ValueError, match=r"scores\['blind'\].*\(2, 4\), got \(2, 3\)"):
        token_advantages(PowerWeights(), torch.ones(2), scores, MASK)


def test_a_missing_view_is_named_with_what_was_given():
    scores = {"patches": ViewScores(torch.zeros(2, 4))}
    with pytest.raises(
        ValueError, match=r"lack \['blind'\]: needed \['blind'\], got \['patches'\]"
    ):
        token_advantages(PowerWeights(), torch.ones(2), scores, MASK)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(2), r"shape of mask, \(2, 4\), got \(2,\)"),
        (torch.ones(2, 1), r"shape of mask, \(2, 4\), got \(2, 1\)"),
        (MASK * -0.5, r"at least 0, .* got -0.5"),
        (MASK / 0.0, r"finite weights, .* got inf"),
        (torch.full((2, 4), NAN), r"finite weights, .* got nan"),
        (torch.full((2, 4), 0.25), r"0 on padding, got 0.25"),
    ],
)
def test_weights_that_break_the_contract_raise(weights, message, annotations_off):
    with pytest.raises(ValueError, match=message):
        token_advantages(Returns(weights), torch.ones(2), {}, MASK)


# --- ViewScores


def test_view_scores_check_their_shapes_in_production(annotations_off):  # T33
    with pytest.raises(ValueError, match=r"one per token, \(B, T\), got \(3,\)"):
        ViewScores(torch.zeros(3))
    with pytest.raises(ValueError, match=r"shape of log_ratio, \(3, 3\), got \(3,\)"):
        ViewScores(torch.zeros(3, 3), torch.zeros(3))


# x                2         -2        4        NaN    padding
# k3               4.389056  1.135335  49.6     0      0
# kl               -1e-7     0.5       12       0.25   padding
X = torch.tensor([[2.0, -2.0, 4.0, NAN, NAN]])
KL = torch.tensor([[-1e-7, 0.5, 12.0, 0.25, INF]])
REAL = torch.tensor([[1, 1, 1, 1, 0]]).bool()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [4.389056, 1.135335, 10.0, 0.0, 0.0]),
        ({"clamp": 2.0}, [2.0, 1.135335, 2.0, 0.0, 0.0]),
        ({"clamp": None}, [4.389056, 1.135335, 49.598150, 0.0, 0.0]),
        ({"estimator": "kl"}, [0.0, 0.5, 10.0, 0.25, 0.0]),
        ({"estimator": "kl", "clamp": None}, [0.0, 0.5, 12.0, 0.25, 0.0]),
    ],
)
def test_dependency_by_hand(arguments, expected):
    dependency = ViewScores(X, KL).dependency(REAL, **arguments)
    assert_close(dependency, torch.tensor([expected]))


def test_dependency_is_a_float32_constant():
    x = X.bfloat16().requires_grad_()
    kl = KL.bfloat16().requires_grad_()
    for estimator in ("k3", "kl"):
        dependency = ViewScores(x, kl).dependency(REAL, estimator)
        assert dependency.dtype == torch.float32
        assert not dependency.requires_grad


def test_a_nan_score_counts_as_zero_and_is_counted():
    kl = KL.clone()
    kl[0, 1] = NAN
    assert ViewScores(X, kl).dependency(REAL, "kl")[0, 1].item() == 0
    # NaN on padding is none: x has one on a real token, kl another
    assert ViewScores(X).not_finite(REAL).sum() == 1
    assert ViewScores(X, kl).not_finite(REAL).sum() == 2
    assert ViewScores(torch.zeros(1, 5), KL).not_finite(REAL).sum() == 0


def test_dependency_that_cannot_be_read_raises():
    with pytest.raises(ValueError, match="needs exact scores, got kl=None: ask the scorer for kl"):
        ViewScores(X).dependency(REAL, "kl")
    with pytest.raises(ValueError, match=r"one of \('k3', 'kl'\), got 'K3'"):
        ViewScores(X).dependency(REAL, "K3")
    with pytest.raises(ValueError, match=r"must be finite without a clamp, got inf"):
        ViewScores(X, KL).dependency(torch.ones(1, 5).bool(), "kl", clamp=None)


def test_dependency_checks_its_mask_in_production(annotations_off):
    with pytest.raises(ValueError, match=r"mask must be boolean, got torch\.int64"):
        ViewScores(X).dependency(REAL.long())


# --- the methods as a set


def test_every_method_is_a_frozen_dataclass_under_its_own_name():
    assert ALGORITHMS["grpo"] is Algorithm
    for name, method in ALGORITHMS.items():
        assert name == name.lower()
        assert issubclass(method, Algorithm)
        assert isinstance(method().views(), Mapping)
        with pytest.raises(dataclasses.FrozenInstanceError):
            method().unknown = 1


def test_no_field_of_a_method_is_also_a_setting_of_trl():  # T67
    from trl import GRPOConfig

    settings = {field.name for field in dataclasses.fields(GRPOConfig)}
    assert {"beta", "epsilon", "temperature"} <= settings
    for method in ALGORITHMS.values():
        assert settings.isdisjoint(field.name for field in dataclasses.fields(method))


def test_wrong_kinds_are_named(annotations_off):
    with pytest.raises(ValueError, match=r"log_ratio must be a tensor, \(B, T\), got a list"):
        ViewScores([[1.0]])
    with pytest.raises(ValueError, match=r"kl must be a tensor, .* got a list"):
        ViewScores(torch.zeros(1, 2), [[1.0, 1.0]])
    with pytest.raises(ValueError, match="scores\\['blind'\\] must be ViewScores, got a Tensor"):
        PGPO().token_weights({"blind": torch.zeros(1, 2)}, torch.ones(1, 2).bool())
    with pytest.raises(ValueError, match="mask must be boolean"):
        Algorithm().token_weights({}, torch.ones(1, 2))
