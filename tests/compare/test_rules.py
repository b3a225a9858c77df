"""The references by hand, and every rule held to the contract of an algorithm."""

import pytest
import torch
from torch.testing import assert_close

from sightline.algorithms import PGPO, PRPO, VPPO, Algorithm, ViewScores
from sightline.compare.rules import (
    LABELS,
    PICTURES,
    RULES,
    UNKNOWN,
    Oracle,
    Seen,
    Shuffled,
    Top,
    find_rule,
)
from sightline.views import AddNoise, Gray, OtherImage

N, V, A, U = LABELS["other"], LABELS["visual"], LABELS["answer"], UNKNOWN  # N: neither
MASK = torch.tensor([[True] * 4 + [False], [True] * 5])


def told(**tables):
    found = {name: ViewScores(torch.tensor(table)) for name, table in tables.items()}
    blind = ViewScores(torch.full((2, 5), -1.0), torch.full((2, 5), 0.4))
    return {"blind": blind, "patches": blind, "noise": blind, **found}


def test_the_oracle_weighs_what_must_be_read_and_the_answer():
    scores = told(label=[[N, V, N, A, V], [U] * 5])  # a visual token on padding; no labels
    assert_close(
        Oracle().token_weights(scores, MASK),
        torch.tensor([[0.0, 1, 0, 1, 0], [1, 1, 1, 1, 1]]),
    )
    assert_close(
        Oracle(floor=0.5, answer=False).token_weights(scores, MASK),
        torch.tensor([[0.5, 1, 0.5, 0.5, 0], [1, 1, 1, 1, 1]]),
    )
    # weights 0, 1, 0, 1 have the mean 1/2
    assert_close(
        Oracle(conserve_mass=True).token_weights(scores, MASK)[0],
        torch.tensor([0.0, 2, 0, 2, 0]),
    )


def test_a_response_without_a_word_to_be_read_is_plain_grpo():
    scores = told(label=[[N, N, N, N, V], [N, N, A, N, N]])
    assert_close(Oracle().token_weights(scores, MASK)[0], torch.tensor([1.0, 1, 1, 1, 0]))
    only_read = Oracle(answer=False).token_weights(scores, MASK)
    assert_close(only_read[1], torch.ones(5))


@pytest.mark.parametrize("name", RULES)
def test_where_there_is_no_image_every_rule_is_plain_grpo(name):
    # scores of rows without an image are 0, and an answer is all there is to label
    scores = told(label=[[N, N, N, A, V], [N, N, A, N, N]], draw=[[0.3, 0.1, 0.4, 0.2, 0.0]] * 2)
    scores["entropy"] = scores["draw"]
    zero = ViewScores(torch.zeros(2, 5), torch.zeros(2, 5))
    scores |= dict.fromkeys(("blind", "gray", "patches", "noise"), zero)
    assert_close(RULES[name].token_weights(scores, MASK), MASK.float())


def test_shuffled_deals_the_weights_of_a_rule_by_draw():
    # log_ratio -1 is S = e^-1 + 1 - 1 everywhere; row 1 gets one larger, so PGPO's weights differ
    scores = told(draw=[[0.3, 0.1, 0.4, 0.2, 0.0], [0.5, 0.4, 0.3, 0.2, 0.1]])
    ratios = torch.full((2, 5), -1.0)
    ratios[1, 0] = -4
    scores["blind"] = ViewScores(ratios)
    plain = PGPO().token_weights(scores, MASK)
    dealt = Shuffled(PGPO()).token_weights(scores, MASK)
    # the smallest draw comes first: row 1 is turned round, and padding keeps weight 0
    assert_close(dealt[1], plain[1].flip(0))
    assert plain[1, 0] > 1 and dealt[1, 4] == plain[1, 0]
    assert dealt[0, 4] == 0 and dealt[0].sum() == plain[0].sum()


def test_shuffled_deals_among_real_tokens_only():
    # VPPO keeps ceil(0.25 * 4) = 1 and ceil(0.25 * 5) = 2, of equal scores the first ones
    scores = told(draw=[[0.9, 0.1, 0.8, 0.7, 0.0], [0.9, 0.1, 0.8, 0.7, 0.0]])
    dealt = Shuffled(VPPO(top_fraction=0.25, scale_min=1.0)).token_weights(scores, MASK)
    # order by draw: row 0: tokens 1, 3, 2, 0; the kept token 0 goes to the last real place.
    # row 1: tokens 4, 1, 3, 2, 0; kept 0 and 1 go to the places 4 and 1
    assert_close(dealt, torch.tensor([[0.0, 0, 0, 1, 0], [0, 1, 0, 0, 1]]))


def test_top_keeps_the_most_dependent_and_the_answer():
    kl = torch.tensor([[0.1, 0.4, 0.2, 0.3, 9.0], [0.5, 0.1, 0.2, 0.3, 0.4]])
    scores = told(label=[[A, N, N, N, A], [N, A, N, N, N]])
    scores["blind"] = ViewScores(torch.full((2, 5), -1.0), kl)
    # ceil(0.4 * 4) = 2 and ceil(0.4 * 5) = 2
    kept = torch.tensor([[0.0, 1, 0, 1, 0], [1, 0, 0, 0, 1]])
    assert_close(Top(0.4).token_weights(scores, MASK), kept)
    kept[0, 0] = kept[1, 1] = 1
    assert_close(Top(0.4, keep_answer=True).token_weights(scores, MASK), kept)
    scores["entropy"] = ViewScores(kl.flip(1))
    # 9.0, 0.3, 0.2, 0.4 in row 0
    assert_close(
        Top(0.4, by="entropy").token_weights(scores, MASK),
        torch.tensor([[1.0, 0, 0, 1, 0], [1, 0, 0, 0, 1]]),
    )


def test_another_view_is_read_in_place_of_the_blind_one():
    rule = Seen(PGPO(boost=1.0), Gray())
    assert rule.views() == {"blind": Gray()} and rule.row_local and not rule.needs_exact_kl
    assert Seen(PGPO(estimator="kl")).needs_exact_kl
    assert Seen(PRPO()).views()["noise"] == PRPO().views()["noise"]
    ratios = -torch.arange(10.0).view(2, 5)
    scores = {"blind": ViewScores(ratios)}
    assert_close(rule.token_weights(scores, MASK), PGPO(boost=1.0).token_weights(scores, MASK))


@pytest.mark.parametrize("name", RULES)
def test_every_rule_keeps_the_contract(name):
    torch.manual_seed(0)
    rule, mask = RULES[name], torch.rand(6, 9) < 0.8
    mask[0] = False
    labels = torch.randint(0, 3, (6, 9)).float()
    table = ViewScores(-torch.rand(6, 9) * 3, torch.rand(6, 9) * 3)
    neutral = ViewScores(table.log_ratio.clone(), table.kl.clone())
    for part in (neutral.log_ratio, neutral.kl):
        part[1] = 0  # a row without an image
    labels[1] = UNKNOWN
    scores = dict.fromkeys(("blind", "patches", "noise", "gray"), neutral)
    scores |= {
        "label": ViewScores(labels),
        "draw": ViewScores(torch.rand(6, 9)),
        "entropy": ViewScores(torch.rand(6, 9)),
    }
    weights = rule.token_weights(scores, mask)
    assert weights.shape == mask.shape and weights.isfinite().all() and (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    assert_close(weights[1], mask[1].float())


def test_a_suite_can_make_rules_of_its_own():
    assert find_rule("gentle", {"of": "pgpo", "boost": 0.5}) == PGPO(boost=0.5)
    assert find_rule("plain", {"of": "grpo"}) == Algorithm()
    assert find_rule("half", {"of": "oracle", "floor": 0.5}) == Oracle(floor=0.5)
    # in its own order whatever that of the settings is: the control of what is seen
    dealt = find_rule("dealt", {"shuffled": True, "of": "pgpo", "seen": "other", "boost": 0.5})
    assert dealt == Shuffled(Seen(PGPO(boost=0.5), OtherImage()))
    assert PICTURES == {"gray": Gray(), "noise": AddNoise(1.0), "other": OtherImage()}
    assert find_rule("dealt", {"of": "oracle", "shuffled": True}).told == ("draw", "label")
    seen = find_rule("seen", {"of": "top-10-answer", "seen": "gray"})
    assert seen == Seen(Top(0.1, keep_answer=True)) and seen.told == ("label",)
    # a name of Sightline's own stands for the same wherever it is found
    same = {"of": "oracle", "answer": False, "conserve_mass": True}
    assert find_rule("oracle-read", same) == RULES["oracle-read"]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("pgppo", None, "unknown rule 'pgppo'; known: uniform"),
        ("mine", {"boost": 1.0}, "must say what it is made `of`"),
        ("mine", {"of": "pgpo", "bost": 1.0}, "pgpo has no setting 'bost'; it has threshold"),
        ("mine", {"of": "pgpo", "boost": -1.0}, "boost must be at least 0"),
        ("mine", {"of": "pgpo", "seen": "grey"}, "seen must be one of gray, noise, other"),
        ("mine", {"of": "vppo", "seen": "gray"}, "weighs by the view blind, got 'gray' of vppo"),
        ("mine", {"of": "oracle", "seen": "gray"}, "weighs by the view blind"),
        ("mine", {"of": "entropy-40", "seen": "gray"}, "weighs by the view blind"),
        ("mine", {"of": "pgpo", "seen": ["gray"]}, "seen must be one of"),
        (
            "mine",
            {"of": "pgpo", "shuffled": "yes"},
            "shuffled must be true, .* got 'yes' of pgpo",
        ),
        ("mine", {"of": "pgpo", "shuffled": 1}, "shuffled must be true"),
        ("mine", {"of": "pgpo-shuffled", "shuffled": True}, "got True of pgpo-shuffled"),
        ("vppo", {"of": "pgpo"}, "rule 'vppo' is one of Sightline's own, and not that"),
    ],
)
def test_what_is_no_rule_is_refused(name, settings, said):
    with pytest.raises(ValueError, match=said):
        find_rule(name, settings)


def test_references_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match=r"floor must be in \[0, 1\], got 2.0"):
        Oracle(floor=2.0)
    with pytest.raises(ValueError, match="fraction must be in"):
        Top(0.0)
    with pytest.raises(ValueError, match="by must be kl or entropy, got 'k3'"):
        Top(0.1, by="k3")
    with pytest.raises(ValueError, match=r"scores lack \['label'\]"):
        Oracle().token_weights({}, MASK)
