"""PRPO as we formulate it: the paper's formulas are not public, so no number here is the paper's.

The worked numbers first, then the negative controls to run before believing any result, then what
holds on random responses. Generic properties are in test_properties.py.
"""

import dataclasses
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from sightline import PRPO, AddNoise, Algorithm, Blind, ViewScores, token_advantages

INF, NAN = float("inf"), float("nan")


def sampled(removed, perturbed):
    """Scores with the given log-ratios; the exact dependencies must not matter."""
    removed, perturbed = torch.as_tensor(removed), torch.as_tensor(perturbed)
    decoy = torch.full_like(removed, NAN)
    return {"blind": ViewScores(removed, decoy), "noise": ViewScores(perturbed, decoy)}


def exact(removed, perturbed):
    """Scores with the given exact dependencies; the sampled ones must not matter."""
    removed, perturbed = torch.as_tensor(removed), torch.as_tensor(perturbed)
    decoy = torch.full_like(removed, 80.0)
    return {"blind": ViewScores(decoy, removed), "noise": ViewScores(decoy, perturbed)}


def weights_of(removed, perturbed, **settings):
    """The weights of one response with these exact dependencies."""
    scores = exact([removed], [perturbed])
    mask = torch.ones(1, len(removed)).bool()
    return PRPO(estimator="kl", **settings).token_weights(scores, mask)[0]


def robust_of(scores, mask, **settings):
    """Robust dependencies, G R: without a threshold a boost of 1 adds them to 1."""
    return PRPO(threshold=0.0, boost=1.0, **settings).token_weights(scores, mask) - 1


# --- example 1: five kinds of token
#
#                     p     removed  perturbed  S         U         G         R         G R
# template            0.95  0.94     0.95       0.000056  0         0.000043  1         0.000043
# digit, stable       0.80  0.02     0.76       2.713879  0.001293  1         0.996941  0.996941
# label, brittle      0.70  0.05     0.10       1.710486  1.088767  0.759961  0.041189  0.031302
# half grounded       0.50  0.20     0.45       0.316291  0.005361  0.209452  0.972569  0.203707
# against the image   0.02  0.40     0.03       0         0.094535  0         0         0
#
# The second row: r = 0.02 / 0.80 = 0.025, S = 0.025 - 1 - log 0.025 = 2.713879, the response's
# most; U = 0.95 - 1 - log 0.95 = 0.001293; R = exp(-0.001293 / 0.5) (1 - 0.001293 / 2.713879);
# w = 1 + 2 (0.996941 - 0.3) / 0.7 = 2.991261. The last would have S = 20 - 1 - log 20 = 16.004,
# clamped to 10, but removing the image made it likelier.
GIVEN, REMOVED, PERTURBED = torch.tensor(
    [
        [0.95, 0.80, 0.70, 0.50, 0.02],
        [0.94, 0.02, 0.05, 0.20, 0.40],
        [0.95, 0.76, 0.10, 0.45, 0.03],
    ]
).log()[:, None]
KINDS = sampled(REMOVED - GIVEN, PERTURBED - GIVEN)
REAL = torch.ones(1, 5).bool()
GROUNDED = [0.000043, 1.0, 0.759961, 0.209452, 0.0]
ROBUST = [0.000043, 0.996941, 0.031302, 0.203707, 0.0]
WEIGHTS = [1.0, 2.991261, 1.0, 1.0, 1.0]

SIX = {"rtol": 0, "atol": 1e-6}  # the table has six decimals


def test_weights_by_hand():
    weights = PRPO().token_weights(KINDS, REAL)[0]
    assert_close(robust_of(KINDS, REAL)[0], torch.tensor(ROBUST), **SIX)
    assert_close(weights, torch.tensor(WEIGHTS), **SIX)
    assert weights[[0, 2, 3, 4]].equal(torch.ones(4))
    assert_close(weights.mean(), torch.tensor(1.398252), **SIX)


def test_token_advantages_by_hand():
    spread = token_advantages(PRPO(), torch.tensor([-0.5]), KINDS, REAL)
    assert_close(spread, torch.tensor([[-0.5, -1.495631, -0.5, -0.5, -0.5]]), **SIX)


# support_rule=False: the last S = 10, so s = log(1 + S) is taken over log 11 = 2.397895. The digit
#   has G = 1.312077 / 2.397895 = 0.547178; the last R = exp(-0.189070) (1 - 0.0094535) = 0.819904.
# contrast: the digit (2.713879 - 0.001293) / (2.713879 + 0.001293) = 0.999047 of G = 1
# conserve: G R / 0.3 is 0.679023 for the half grounded, under the floor of 0.5 for three others;
#   (0.5, 2.991261, 0.5, 0.679023, 0.5), sum 5.170284, times 5 / 5.170284 = 0.967065
# mass="batch": times 1 / 1.398252 = 0.715179
@pytest.mark.parametrize(
    ("settings", "robust", "expected"),
    [
        (
            {"support_rule": False},
            [0.000000, 0.545495, 0.017127, 0.111444, 0.819904],
            [1.0, 1.701413, 1.0, 1.0, 2.485439],
        ),
        (
            {"rvd_mode": "contrast"},
            [0.000042, 0.999047, 0.168789, 0.202471, 0.0],
            [1.0, 2.997277, 1.0, 1.0, 1.0],
        ),
        ({"par_mode": "conserve"}, None, [0.483532, 2.892743, 0.483532, 0.656659, 0.483532]),
        ({"mass": "batch"}, None, [0.715179, 2.139286, 0.715179, 0.715179, 0.715179]),
    ],
)
def test_switches_by_hand(settings, robust, expected):
    if robust is not None:
        assert_close(robust_of(KINDS, REAL, **settings)[0], torch.tensor(robust), **SIX)
    weights = PRPO(**settings).token_weights(KINDS, REAL)[0]
    assert_close(weights, torch.tensor(expected), **SIX)


# G R = (0, 0.996941, 0.031302, 0.203707, 0) through other gates
#   threshold 0.2, boost 1: 1 + 0.796941 / 0.8, 1 + 0.003707 / 0.8
#   conserve too, floor 0.1: G R / 0.2 = 0.156510 for the label; sum 0.1 + 1.996176 + 0.156510
#     + 1.004634 + 0.1 = 3.357320, times 5 / 3.357320
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"threshold": 0.2, "boost": 1.0}, [1.0, 1.996176, 1.0, 1.004634, 1.0]),
        (
            {"threshold": 0.2, "boost": 1.0, "par_mode": "conserve", "weight_floor": 0.1},
            [0.148928, 2.972871, 0.233087, 1.496185, 0.148928],
        ),
        # with a floor of 1 nothing is lowered: the boosted weights, rescaled
        (
            {"par_mode": "conserve", "weight_floor": 1.0},
            [0.715179, 2.139286, 0.715179, 0.715179, 0.715179],
        ),
    ],
)
def test_gate_by_hand(settings, expected):
    weights = PRPO(**settings).token_weights(KINDS, REAL)[0]
    assert_close(weights, torch.tensor(expected), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("ratio", "price"),
    [
        (0.95, 0.9974),
        (0.9, 0.9893),
        (0.75, 0.9274),
        (0.5, 0.6796),
        (0.25, 0.2801),
        (0.1, 0.0605),
        (1.25, 0.9477),
        (2.0, 0.5413),
        (4.0, 0.0397),
    ],
)
def test_price_of_a_moved_probability(ratio, price):
    # exp(-U / 0.5) where noise moves p to ratio p; S = 10 is the response's most, so that
    # G R = exp(-U / 0.5) (1 - U / 10)
    instability = ratio - 1 - log(ratio)
    scores = sampled([[-80.0, 0.0]], [[log(ratio), 0.0]])
    mask = torch.ones(1, 2).bool()
    robust = robust_of(scores, mask)[0, 0]
    assert_close(robust / (1 - instability / 10), torch.tensor(price), rtol=0, atol=5e-5)
    # twice the scale, the square root of the price
    robust = robust_of(scores, mask, stability_scale=1.0)[0, 0]
    assert_close(robust / (1 - instability / 10), torch.tensor(price).sqrt(), rtol=0, atol=1e-3)
    robust = robust_of(scores, mask, stability_scale=INF)[0, 0]
    assert_close(robust, torch.tensor(1 - instability / 10), **SIX)


# --- example 2: responses with little to go by


def test_a_response_that_hardly_used_the_image_keeps_its_weights():  # T24
    #   S                                        0  0.002     0.004     0.010
    #   log(1 + S) / log 2                       0  0.002883  0.005759  0.014355
    #   over its own range, as PGPO takes it:    0  0.200797  0.401194  1
    little, none = [0.0, 0.002, 0.004, 0.010], [0.0] * 4
    mask = torch.ones(1, 4).bool()
    robust = robust_of(exact([little], [none]), mask, estimator="kl")[0]
    assert_close(robust, torch.tensor([0.0, 0.002883, 0.005759, 0.014355]), **SIX)
    assert weights_of(little, none).equal(torch.ones(4))
    own_range = robust_of(exact([little], [none]), mask, estimator="kl", range_floor=1e-9)[0]
    assert_close(own_range, torch.tensor([0.0, 0.200797, 0.401194, 1.0]), **SIX)


@pytest.mark.parametrize("rvd_mode", ["product", "contrast"])
@pytest.mark.parametrize("par_mode", ["boost", "conserve"])
@pytest.mark.parametrize("noise", [1e-4, 0.01, 0.125])
def test_kernel_noise_is_no_dependency(noise, rvd_mode, par_mode):  # T24
    # 0.125 is one step of bf16 logits of size 16 to 32; S is at most 0.0083
    removed, perturbed = noise * (2 * torch.rand(2, 50, 40) - 1)
    mask = torch.ones(50, 40).bool()
    algorithm = PRPO(rvd_mode=rvd_mode, par_mode=par_mode)
    assert algorithm.token_weights(sampled(removed, perturbed), mask).equal(torch.ones(50, 40))


def test_range_floor_is_the_range_of_a_token_that_counts_fully():
    # s = log 1.5 = 0.405465 over log 2, over 0.2 (less than its own range) and over 1
    scores, mask = exact([[0.0, 0.5]], [[0.0, 0.0]]), torch.ones(1, 2).bool()
    for floor, expected in ((log(2), 0.584963), (0.2, 1.0), (1.0, 0.405465)):
        robust = robust_of(scores, mask, estimator="kl", range_floor=floor)
        assert_close(robust, torch.tensor([[0.0, expected]]), **SIX)
    assert PRPO().range_floor == log(2)


@pytest.mark.parametrize("rvd_mode", ["product", "contrast"])
@pytest.mark.parametrize("par_mode", ["boost", "conserve"])
@pytest.mark.parametrize(
    "dependency", [[0.0], [3.0], [0.0, 0.0], [0.4, 0.4, 0.4], [10.0] * 7, [NAN, 0.0]]
)
def test_without_a_difference_to_go_by_all_tokens_weigh_one(dependency, par_mode, rvd_mode):
    tokens = len(dependency)
    settings = {"par_mode": par_mode, "rvd_mode": rvd_mode, "weight_floor": 0.3}
    for perturbed in ([0.0] * tokens, [0.1] * tokens, [0.0, 5.0, 0.2, 0.0, 0.1, 2.0, 0.0][:tokens]):
        assert weights_of(dependency, perturbed, **settings).equal(torch.ones(tokens))


# --- the negative controls: run them before believing any result

MODES = [
    {"rvd_mode": rvd, "par_mode": par}
    for rvd in ("product", "contrast")
    for par in ("boost", "conserve")
]
IDS = [" ".join(mode.values()) for mode in MODES]
every_mode = pytest.mark.parametrize("mode", MODES, ids=IDS)
# a control needs scores that mean something: the worked ones, and random ones with the same mask
RANDOM = torch.Generator().manual_seed(1)
REMOVED_RATIOS = torch.cat([KINDS["blind"].log_ratio, 2 * torch.randn(300, 5, generator=RANDOM)])
PERTURBED_RATIOS = torch.cat([KINDS["noise"].log_ratio, torch.randn(300, 5, generator=RANDOM) / 4])
ALL = torch.ones(301, 5).bool()


@every_mode
@pytest.mark.parametrize("support_rule", [True, False])
def test_control_perturbed_is_removed_gives_plain_grpo(mode, support_rule):  # R4
    scores = sampled(REMOVED_RATIOS, REMOVED_RATIOS)
    algorithm = PRPO(**mode, support_rule=support_rule)
    assert algorithm.token_weights(scores, ALL).equal(ALL.float())
    # and not for want of grounding
    scores = sampled(REMOVED_RATIOS, 0 * REMOVED_RATIOS)
    assert not algorithm.token_weights(scores, ALL).equal(ALL.float())


@pytest.mark.parametrize("rvd_mode", ["product", "contrast"])
def test_control_perturbed_is_removed_leaves_no_robust_dependency(rvd_mode):
    removed = KINDS["blind"].log_ratio
    robust = robust_of(sampled(removed, removed), REAL, rvd_mode=rvd_mode)
    assert robust.equal(torch.zeros(1, 5))
    # below 1e-6 nats no share is taken, which leaves at most 0.25e-6 / log 2 = 3.6e-7
    small = torch.linspace(0, 2e-6, 200)[None]
    mask = torch.ones(1, 200).bool()
    robust = robust_of(exact(small, small), mask, estimator="kl", rvd_mode=rvd_mode)
    assert robust.amax() <= 4e-7
    # the exponential alone would not do: what is left of G at U = S is not 0
    grounded = robust_of(sampled(removed, 0 * removed), REAL)[0]
    dependency = torch.tensor([0.000056, 2.713879, 1.710486, 0.316291, 0.0])
    left = torch.tensor([0.000043, 0.004393, 0.024836, 0.111265, 0.0])
    assert_close(grounded * (-dependency / 0.5).exp(), left, **SIX)


def test_control_perturbed_is_image_is_the_method_without_its_stability_half():  # R4
    scores = sampled(KINDS["blind"].log_ratio, torch.zeros(1, 5))
    assert_close(robust_of(scores, REAL)[0], torch.tensor(GROUNDED), **SIX)
    # 1 + 2 (0.759961 - 0.3) / 0.7 = 2.314176 for the brittle label
    weights = PRPO().token_weights(scores, REAL)[0]
    assert_close(weights, torch.tensor([1.0, 3.0, 2.314176, 1.0, 1.0]), **SIX)
    # no setting of that half matters then
    for other in ({"stability_scale": 0.01}, {"rvd_mode": "contrast"}):
        assert_close(PRPO(**other).token_weights(scores, REAL)[0], weights, rtol=0, atol=1e-5)


@every_mode
@pytest.mark.parametrize("mass", ["none", "batch"])
@pytest.mark.parametrize("estimator", ["k3", "kl"])
def test_control_removed_is_image_gives_plain_grpo_bit_for_bit(mode, mass, estimator):  # R4
    removed = torch.zeros_like(PERTURBED_RATIOS)
    scores = {
        "blind": ViewScores(removed, removed),
        "noise": ViewScores(PERTURBED_RATIOS, PERTURBED_RATIOS.abs()),
    }
    advantages = torch.randn(301)
    algorithm = PRPO(**mode, mass=mass, estimator=estimator)
    spread = token_advantages(algorithm, advantages, scores, ALL)
    assert spread.equal(token_advantages(Algorithm(), advantages, {}, ALL))


@every_mode
@pytest.mark.parametrize("mass", ["none", "batch"])
def test_control_permuted_scores_give_the_same_weights_permuted(mode, mass):  # R4
    # as many tokens raised, and as much: a gain in training that survives is none of perception
    algorithm = PRPO(**mode, mass=mass)
    weights = algorithm.token_weights(sampled(REMOVED_RATIOS, PERTURBED_RATIOS), ALL)
    order = torch.rand(301, 5).argsort(1)
    removed, perturbed = REMOVED_RATIOS.gather(1, order), PERTURBED_RATIOS.gather(1, order)
    permuted = algorithm.token_weights(sampled(removed, perturbed), ALL)
    assert_close(permuted, weights.gather(1, order))
    if algorithm == PRPO(rvd_mode=mode["rvd_mode"]):  # the others divide by a sum, in its order
        assert permuted.equal(weights.gather(1, order))


# --- which scores it reads


def test_it_reads_the_sampled_dependencies_of_two_views():
    assert PRPO().views() == {"blind": Blind(), "noise": AddNoise(0.1)}
    assert PRPO().views()["noise"].per == "prompt"
    decoy = ViewScores(torch.rand(1, 5), torch.rand(1, 5))
    with_another = {**KINDS, "patches": decoy}
    assert_close(PRPO().token_weights(with_another, REAL)[0], torch.tensor(WEIGHTS), **SIX)


def test_exact_scores_are_read_where_asked_for_and_have_no_support_rule():
    # S = 3, 1, 0 and U = 0.1, 0, 0: G = 1, 0.5, 0; R = exp(-0.2) (1 - 0.1 / 3), 1, 1
    #   G R = 0.791440, 0.5, 0;  w = 1 + 2 * 0.491440 / 0.7, 1 + 2 * 0.2 / 0.7, 1
    expected = torch.tensor([2.404114, 1.571429, 1.0])
    for support_rule in (True, False):  # the log-ratios of `exact` are all positive
        weights = weights_of([3.0, 1.0, 0.0], [0.1, 0.0, 0.0], support_rule=support_rule)
        assert_close(weights, expected)
    assert PRPO(estimator="kl").needs_exact_kl and not PRPO().needs_exact_kl


def test_only_mass_over_the_batch_looks_at_other_rows():
    assert not Algorithm().row_local  # nor is a user's own, unless it says so
    assert PRPO().row_local and PRPO(par_mode="conserve").row_local
    assert not PRPO(mass="batch").row_local


def test_support_rule_reads_the_removed_view_alone():
    # noise that makes a token likelier moves it as much as noise that does the opposite
    removed = [[-3.0, -3.0, 0.0]]
    rise = (0.05 - torch.tensor(0.05).expm1()).abs().item()  # k3 of -0.05 is a little less
    weights = PRPO().token_weights(sampled(removed, [[0.05, -0.05, 0.0]]), torch.ones(1, 3).bool())
    assert weights[0, 0] < weights[0, 1] < weights[0, 0] + 3 * rise
    assert weights[0, 0] > 2.9


def test_a_token_of_log_ratio_zero_is_not_grounded():
    # what a clamp, a NaN or a rounding leaves at exactly 0 must not count as support
    scores = sampled([[0.0, -3.0, 1e-3]], [[0.0, 0.0, 0.0]])
    weights = PRPO().token_weights(scores, torch.ones(1, 3).bool())
    assert_close(weights, torch.tensor([[1.0, 3.0, 1.0]]))


def test_score_clamp_limits_the_scale_of_a_response():
    none = [0.0, 0.0, 0.0]
    limited = weights_of([0.0, 3.0, 4.0], none)
    assert_close(weights_of([0.0, 3.0, 40.0], none, score_clamp=4.0), limited)
    assert_close(weights_of([0.0, 3.0, 40.0], none), weights_of([0.0, 3.0, 10.0], none))
    unlimited = weights_of([0.0, 3.0, 40.0], none, score_clamp=None)
    assert unlimited[1] < weights_of([0.0, 3.0, 10.0], none)[1] - 0.1
    # of the perturbed view too: unlimited it would move the token four times as far as removal
    steady = {"rvd_mode": "contrast", "threshold": 0.0}
    assert weights_of([8.0, 0.0], [40.0, 0.0], score_clamp=4.0, **steady).equal(torch.ones(2))
    assert weights_of([12.0, 0.0], [11.0, 0.0], score_clamp=None, **steady)[0] > 1
    assert weights_of([12.0, 0.0], [11.0, 0.0], **steady)[0] == 1


@pytest.mark.parametrize("missing", ["blind", "noise"])
def test_a_view_that_was_not_scored_is_named(missing):
    scores = {name: score for name, score in KINDS.items() if name != missing}
    with pytest.raises(ValueError, match=rf"lack \['{missing}'\]: needed \['blind', 'noise'\]"):
        PRPO().token_weights(scores, REAL)


@pytest.mark.parametrize("missing", ["blind", "noise"])
def test_exact_dependency_must_have_been_scored(missing):
    scores = exact([[1.0, 2.0]], [[0.0, 0.0]])
    scores[missing] = ViewScores(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="got kl=None"):
        PRPO(estimator="kl").token_weights(scores, torch.ones(1, 2).bool())


@every_mode
@pytest.mark.parametrize("mass", ["none", "batch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probs_down_to_minus_80_give_finite_weights(mode, mass, dtype):
    grid = torch.tensor([-80.0, -40, -11, -1, -1e-3, -1e-20, 0, 1e-3, 2.7, 40, 80])
    pairs = torch.cartesian_prod(grid, grid).to(dtype)
    removed, perturbed = pairs[:, 0][None], pairs[:, 1][None]
    mask = torch.ones_like(removed).bool()
    weights = PRPO(**mode, mass=mass).token_weights(sampled(removed, perturbed), mask)
    assert weights.dtype == torch.float32
    assert weights.isfinite().all() and (weights > 0).all()


# --- rows without an image, empty rows, the mass of the batch


@pytest.mark.parametrize(
    ("par_mode", "expected"), [("boost", [3.0, 1]), ("conserve", [12 / 7, 2 / 7])]
)
def test_padding_is_not_the_least_dependent_token(par_mode, expected):
    # S = 3, 1: log(1 + S) = 2 log 2, log 2, so G = 1, 0. With padding at S = 0 the second token
    # would have G = 0.5. To conserve: 3, 0.5, sum 3.5, times 2 / 3.5
    scores = exact([[NAN, 3.0, 1.0, INF]], [[INF, 0.0, 0.0, NAN]])
    mask = torch.tensor([[False, True, True, False]])
    weights = PRPO(estimator="kl", par_mode=par_mode).token_weights(scores, mask)
    assert_close(weights, torch.tensor([[0.0, *expected, 0.0]]))


def test_mass_over_the_batch_by_hand():
    # Rows: example 1, of sum 6.991261; no image; two tokens, against the image, so that they weigh
    # 1 but count; image blind to removal but not to noise, likewise; empty.
    # mean (6.991261 + 2 + 1) / (5 + 2 + 1) = 1.248908
    removed, perturbed = torch.full((5, 5), NAN), torch.full((5, 5), INF)
    removed[0], perturbed[0] = KINDS["blind"].log_ratio, KINDS["noise"].log_ratio
    removed[1, :4] = perturbed[1, :4] = 0
    removed[2, :2], perturbed[2, :2] = torch.tensor([0.0, 0.5]), 0
    removed[3, 2], perturbed[3, 2] = 0, 0.3
    mask = torch.zeros(5, 5).bool()
    mask[0] = mask[1, :4] = mask[2, :2] = mask[3, 2] = True
    weights = PRPO(mass="batch").token_weights(sampled(removed, perturbed), mask)
    low = 0.800700
    expected = torch.tensor(
        [
            [low, 2.395102, low, low, low],
            [1.0, 1.0, 1.0, 1.0, 0],
            [low, low, 0, 0, 0],
            [0, 0, low, 0, 0],
            [0, 0, 0, 0, 0],
        ]
    )
    assert_close(weights, expected, rtol=0, atol=2e-6)


def test_an_empty_response_weighs_nothing():
    mask = torch.tensor([[False, False], [True, True]])
    removed, perturbed = torch.tensor([[NAN, -INF], [0, -3]]), torch.tensor([[INF, -3], [0, 0]])
    for mode in MODES:
        for mass, expected in (("none", [1.0, 3.0]), ("batch", [0.5, 1.5])):
            algorithm = PRPO(**mode, mass=mass)
            weights = algorithm.token_weights(sampled(removed, perturbed), mask)
            assert weights[0].tolist() == [0, 0]
            if mode["par_mode"] == "boost":
                assert_close(weights[1], torch.tensor(expected))
    empty = torch.zeros(0, 3)
    assert PRPO(mass="batch").token_weights(sampled(empty, empty), empty.bool()).shape == (0, 3)


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": -0.1}, r"threshold must be in \[0, 1\), got -0.1"),
        ({"threshold": 1.0}, r"threshold must be in \[0, 1\), got 1.0"),
        ({"threshold": NAN}, r"threshold must be in \[0, 1\), got nan"),
        ({"threshold": 0.0, "par_mode": "conserve"}, "threshold must be above 0 .* got 0"),
        ({"boost": -1.0}, "boost must be at least 0 and finite, got -1.0"),
        ({"boost": INF}, "boost must be at least 0 and finite, got inf"),
        ({"stability_scale": 0.0}, "stability_scale must be above 0, got 0.0"),
        ({"stability_scale": NAN}, "stability_scale must be above 0, got nan"),
        ({"range_floor": 0.0}, "range_floor must be above 0 and finite, got 0.0"),
        ({"range_floor": INF}, "range_floor must be above 0 and finite, got inf"),
        ({"estimator": "low_var_kl"}, r"one of \('k3', 'kl'\), got 'low_var_kl'"),
        ({"score_clamp": 0.0}, "score_clamp must be above 0, .* got 0.0"),
        ({"rvd_mode": "sum"}, r"rvd_mode must be one of \('product', 'contrast'\), got 'sum'"),
        ({"par_mode": "mask"}, r"par_mode must be one of \('boost', 'conserve'\), got 'mask'"),
        ({"mass": "row"}, r"mass must be one of \('none', 'batch'\), got 'row'"),
        ({"weight_floor": 0.0}, r"weight_floor must be in \(0, 1\], got 0.0"),
        ({"weight_floor": 1.1}, r"weight_floor must be in \(0, 1\], got 1.1"),
    ],
)
def test_settings_out_of_range_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        PRPO(**settings)


def test_settings_at_the_ends_of_their_ranges_are_fine():
    PRPO(threshold=0.0, boost=0.0, stability_scale=INF, score_clamp=None, weight_floor=1.0)


def test_defaults_are_those_documented():
    defaults = PRPO(
        0.3, 2.0, 0.5, log(2), "k3", True, 10.0, "product", "boost", "none", weight_floor=0.5
    )
    assert PRPO() == defaults


def test_it_says_that_the_formulas_are_ours():
    import sightline.algorithms.prpo as module

    assert "formulas are not public" in " ".join(module.__doc__.split())
    assert "its formulas are not public" in " ".join(PRPO.__doc__.split())


# --- random responses


@dataclasses.dataclass(repr=False)
class Batch:
    """Responses of 0 to T tokens: log-ratios, exact dependencies of both views, and a mask."""

    removed: torch.Tensor
    perturbed: torch.Tensor
    mask: torch.Tensor
    generator: torch.Generator

    def scores(self):
        return sampled(self.removed, self.perturbed)

    def weights(self, algorithm):
        return algorithm.token_weights(self.scores(), self.mask)


@st.composite
def batches(draw):
    """200 responses, so 10 examples are 2,000; noise moves most tokens less than removal does."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.02, 0.3, 2.0]))
    noise = draw(st.sampled_from([0.0, 0.1, 1.0]))
    sparsity = draw(st.sampled_from([0.0, 0.5, 0.9]))
    shape = 200, draw(st.integers(1, 60))

    def log_ratios(scale):
        sizes = torch.empty(shape).exponential_(generator=generator) * scale
        sizes = sizes.masked_fill(torch.rand(shape, generator=generator) < sparsity, 0)
        return sizes * torch.randn(shape, generator=generator).sign()

    density = torch.rand(200, 1, generator=generator).round(decimals=1)
    mask = torch.rand(shape, generator=generator) < density
    return Batch(log_ratios(scale), log_ratios(noise * scale), mask, generator)


@every_mode
@settings(max_examples=6)
@given(batches(), st.sampled_from([0.05, 0.3, 0.9]), st.sampled_from([0.0, 1.0, 2.0, 7.0]))
def test_weights_and_robust_dependencies_are_bounded(mode, batch, threshold, boost):  # R1
    robust = robust_of(batch.scores(), batch.mask, rvd_mode=mode["rvd_mode"])[batch.mask]
    assert (robust >= 0).all() and (robust <= 1).all()
    weights = batch.weights(PRPO(threshold=threshold, boost=boost, **mode))
    assert (weights[~batch.mask] == 0).all()
    low, high = 1.0, 1 + boost
    if mode["par_mode"] == "conserve":
        assert_close(weights.sum(1), batch.mask.sum(1).float(), rtol=1e-5, atol=0)
        low, high = 0.5 / (1 + boost), (1 + boost) / 0.5
    # one rounding of float32 beyond the bounds is within them
    real = weights[batch.mask]
    assert (real >= low * (1 - 1e-6)).all() and (real <= high * (1 + 1e-6)).all()


@every_mode
@settings(max_examples=6)
@given(batches(), st.floats(0, 1))
def test_weight_rises_with_the_tokens_own_dependency(mode, batch, place):  # R2
    removed = batch.removed[:1].expand(200, -1).clone()
    perturbed = batch.perturbed[:1].expand(200, -1)
    token = int(place * (removed.shape[1] - 1))
    removed[:, token] = -torch.linspace(0, 1.5, 200) * removed[0].abs().max().clamp(min=1)
    mask = torch.ones_like(removed).bool()
    own = PRPO(**mode).token_weights(sampled(removed, perturbed), mask)[:, token]
    # a weight carries a few roundings of float32, times boost / (1 - threshold)
    assert (own.diff() >= -1e-6 * own[1:]).all()


@every_mode
@settings(max_examples=6)
@given(batches(), st.floats(0, 1), st.sampled_from([-1, 1]))
def test_weight_falls_with_the_tokens_own_instability(mode, batch, place, sign):  # R2
    removed = batch.removed[:1].expand(200, -1).clone()
    perturbed = batch.perturbed[:1].expand(200, -1).clone()
    token = int(place * (removed.shape[1] - 1))
    removed[:, token] = -4.0
    perturbed[:, token] = sign * torch.linspace(0, 3, 200)
    mask = torch.ones_like(removed).bool()
    own = PRPO(**mode).token_weights(sampled(removed, perturbed), mask)[:, token]
    assert (own.diff() <= 1e-6 * own[1:]).all()
    if removed.shape[1] > 1:
        assert own[0] > own[-1]


@every_mode
@settings(max_examples=6)
@given(batches(), st.sampled_from([0.05, 0.3, 0.9]))
def test_weights_are_the_formula_on_robust_dependencies(mode, batch, threshold):  # R3
    robust = robust_of(batch.scores(), batch.mask, rvd_mode=mode["rvd_mode"]).double()
    robust = robust.masked_fill(~batch.mask, 0)
    weights = batch.weights(PRPO(threshold=threshold, **mode))
    base = 1 + 2 * (robust - threshold).clamp(min=0) / (1 - threshold)
    if mode["par_mode"] == "boost":
        low = batch.mask & (robust <= threshold - 1e-6)
        assert (weights[low] == 1).all()
        assert (weights[batch.mask & (robust >= threshold + 1e-6)] > 1).all()
    else:
        base = torch.where(robust < threshold, (robust / threshold).clamp(min=0.5), base)
        base = base / base.masked_fill(~batch.mask, 0).sum(1, keepdim=True)
        base = base * batch.mask.sum(1, keepdim=True)
    expected = base.masked_fill(~batch.mask, 0).float()
    assert_close(weights, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=6)
@given(batches())
def test_robust_dependency_is_the_formula(batch):  # in float64, row by row and token by token
    scores, mask = batch.scores(), batch.mask
    robust = {mode: robust_of(scores, mask, rvd_mode=mode) for mode in ("product", "contrast")}
    for row in range(0, 200, 50):
        real = mask[row]
        removed, perturbed = batch.removed[row, real].double(), batch.perturbed[row, real].double()
        grounding = (removed.expm1() - removed).clamp(max=10) * (removed < 0)
        moved = (perturbed.expm1() - perturbed).clamp(max=10)
        scale = grounding.log1p()
        if len(scale):
            scale = (scale - scale.min()) / max(scale.max() - scale.min(), log(2))
        stable = (-moved / 0.5).exp() * (1 - moved / grounding.clamp(min=1e-6)).clamp(min=0)
        contrast = (grounding - moved).clamp(min=0) / (grounding + moved + 1e-6)
        near = {"rtol": 1e-3, "atol": 1e-5}  # 1 - U / S for an S of a few roundings
        assert_close(robust["product"][row, real], (scale * stable).float(), **near)
        assert_close(robust["contrast"][row, real], (scale * contrast).float(), **near)


@every_mode
@settings(max_examples=6)
@given(batches())
def test_controls_hold_on_random_responses(mode, batch):  # R4
    algorithm, plain = PRPO(**mode), batch.mask.float()
    assert dataclasses.replace(batch, perturbed=batch.removed).weights(algorithm).equal(plain)
    assert dataclasses.replace(batch, removed=0 * batch.removed).weights(algorithm).equal(plain)
    unmoved = dataclasses.replace(batch, perturbed=0 * batch.perturbed).scores()
    if mode == MODES[0]:
        grounding = batch.removed.clamp(-20, 0)
        grounding = (grounding.expm1() - grounding).clamp(max=10).log1p()
        least = grounding.masked_fill(~batch.mask, INF).amin(1, keepdim=True)
        spread = grounding.masked_fill(~batch.mask, -INF).amax(1, keepdim=True) - least
        expected = (grounding - least) / spread.clamp(min=log(2))
        assert_close(robust_of(unmoved, batch.mask)[batch.mask], expected[batch.mask], **SIX)
    # the fourth: one order for both views and the mask, the same multiset of weights
    order = torch.rand(batch.mask.shape, generator=batch.generator).argsort(1)
    tables = (batch.removed, batch.perturbed, batch.mask)
    permuted = Batch(*(table.gather(1, order) for table in tables), batch.generator)
    before, after = batch.weights(algorithm).sort(1)[0], permuted.weights(algorithm).sort(1)[0]
    assert_close(after, before)


@every_mode
@settings(max_examples=6)
@given(batches())
def test_without_a_cause_to_raise_a_token_all_weigh_one(mode, batch):  # R5
    plain = batch.mask.float()
    if mode["par_mode"] == "boost":
        assert batch.weights(PRPO(boost=0.0, **mode)).equal(plain)
    else:
        assert_close(batch.weights(PRPO(boost=0.0, weight_floor=1.0, **mode)), plain)
    first = torch.zeros_like(batch.mask)
    first[:, -1] = batch.mask[:, -1]
    assert dataclasses.replace(batch, mask=first).weights(PRPO(**mode)).equal(first.float())
    constant = batch.removed[:, :1].expand_as(batch.removed)
    assert dataclasses.replace(batch, removed=constant).weights(PRPO(**mode)).equal(plain)
    # noise that moves every token at least as much as removal does
    louder = dataclasses.replace(batch, perturbed=1.5 * batch.removed)
    assert louder.weights(PRPO(**mode)).equal(plain)


@pytest.mark.parametrize("rvd_mode", ["product", "contrast"])
@settings(max_examples=6)
@given(batches())
def test_tokens_the_image_made_less_likely_are_not_raised(rvd_mode, batch):  # R6
    against = batch.mask & (batch.removed >= 0)
    assert (batch.weights(PRPO(rvd_mode=rvd_mode))[against] == 1).all()
    # nor do they set the scale of the others
    flat = dataclasses.replace(batch, removed=batch.removed.clamp(max=0))
    assert flat.weights(PRPO(rvd_mode=rvd_mode)).equal(batch.weights(PRPO(rvd_mode=rvd_mode)))
    # without the rule a token is raised whichever way removal moved it
    ruleless = PRPO(support_rule=False, rvd_mode=rvd_mode)
    up = dataclasses.replace(batch, removed=batch.removed.abs() + 3, perturbed=0 * batch.perturbed)
    up.removed[:, 0] = 0
    up.mask[:, 0] = True
    assert (up.weights(ruleless)[up.mask & (up.removed > 0)] > 1).all()


@every_mode
@settings(max_examples=6)
@given(batches())
def test_mass_over_the_batch_is_one_common_factor(mode, batch):  # R7
    no_image = torch.rand(200, 1, generator=batch.generator) < 0.3
    batch.removed.masked_fill_(no_image, 0)
    batch.perturbed.masked_fill_(no_image, 0)
    scored = ((batch.removed != 0) | (batch.perturbed != 0)) & batch.mask
    counted = batch.mask & scored.any(1, keepdim=True)
    weights, plain = (batch.weights(PRPO(mass=mass, **mode)) for mass in ("batch", "none"))
    assert weights[batch.mask & ~counted].equal(torch.ones(int((batch.mask & ~counted).sum())))
    if counted.any():
        assert_close(weights[counted].mean(), torch.tensor(1.0))
        assert_close(weights[counted], plain[counted] / plain[counted].mean())
