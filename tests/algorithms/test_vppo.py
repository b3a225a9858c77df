"""VPPO: both worked examples, then what has to hold for any scores."""

import dataclasses

import pytest
import torch
from algorithms.test_properties import batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from sightline import (
    VPPO,
    Algorithm,
    MaskPatches,
    ViewScores,
    clipped_surrogate,
    group_advantages,
    response_mean,
    sequence_mean,
    token_advantages,
    token_mean,
)

INF, NAN = float("inf"), float("nan")
EXACT = VPPO(estimator="kl", score_clamp=None)


def exact(dependency):
    """Scores with the given exact dependencies; the sampled ones must not matter."""
    return {"patches": ViewScores(torch.ones_like(dependency), dependency)}


def weights_of(dependency, mask=None, **settings):
    """Weights for exact dependencies, of every token unless a mask is given."""
    mask = torch.ones_like(dependency).bool() if mask is None else mask
    return dataclasses.replace(EXACT, **settings).token_weights(exact(dependency), mask)


def scales_of(means, **settings):
    """The factors of responses of one token each; None is an empty response."""
    dependency = torch.tensor([[NAN if mean is None else mean] for mean in means])
    return weights_of(dependency, ~dependency.isnan(), **settings)[:, 0]


def scopes(mini, micro):
    """Settings for the statistics of the authors' code."""
    return {"mini_batch_rows": mini, "micro_batch_rows": micro}


def kept(dependency, mask, fraction):
    """Which tokens the filter keeps."""
    return weights_of(dependency, mask, top_fraction=fraction, scale_min=1.0) == 1


# --- example 1: scaling alone, as each response is one token and so keeps it
#
# mean S                         0.05    0.09      0.12      0.30     least 0.05, range 0.25
# z                              0       0.16      0.28      1        mean 0.36
# 0.9 + 0.1 z / 0.36             0.9     0.944444  0.977778  1.177778
MEANS = [0.05, 0.09, 0.12, 0.30]
SCALES = [0.9, 0.944444, 0.977778, 1.177778]


@pytest.mark.parametrize(
    ("means", "settings", "expected"),
    [
        (MEANS, {}, SCALES),
        # fixed ends: 0.9 + 0.2 z, 0.8 + 0.4 z
        (MEANS, {"scale_max": 1.1}, [0.9, 0.932, 0.956, 1.1]),
        (MEANS, {"scale_min": 0.8, "scale_max": 1.2}, [0.8, 0.864, 0.912, 1.2]),
        (MEANS, {"scale_min": 0.0, "scale_max": 0.0}, [0.0] * 4),
        # 0.8 + 0.2 z / 0.36
        (MEANS, {"scale_min": 0.8}, [0.8, 0.888889, 0.955556, 1.355556]),
        # an empty response is no zero: z = 0, 1, mean 0.5
        ([0.05, None, 0.30], {}, [0.9, 0.0, 1.1]),
        ([0.09, 0.09, 0.09], {}, [1.0, 1.0, 1.0]),
        ([0.30], {}, [1.0]),
        ([None, 0.30, None], {}, [0.0, 1.0, 0.0]),
        ([None, None], {}, [0.0, 0.0]),
        # nothing to compare leaves fixed ends unused too
        ([0.09, 0.09, 0.09], {"scale_min": 0.8, "scale_max": 1.3}, [1.0, 1.0, 1.0]),
    ],
)
def test_scales_by_hand(means, settings, expected):
    assert_close(scales_of(means, **settings), torch.tensor(expected))


# The authors' scopes: z from all four, its mean from two at a time.
#   0.05, 0.09 | 0.12, 0.30:  z = 0, 0.16 of mean 0.08  and  0.28, 1 of mean 0.64
#   0.05, 0.12 | 0.09, 0.30:  z = 0, 0.28 of mean 0.14  and  0.16, 1 of mean 0.58
@pytest.mark.parametrize(
    ("means", "rows", "expected"),
    [
        (MEANS, (4, 2), [0.9, 1.1, 0.943750, 1.056250]),
        ([0.05, 0.12, 0.09, 0.30], (4, 2), [0.9, 1.1, 0.927586, 1.072414]),
        # the last micro-batch is shorter and holds the least alone: z = 0 of mean 0
        ([0.09, 0.30, 0.05], (3, 2), [0.927586, 1.072414, 0.9]),
        # mini-batches apart: z = 0, 1 in both
        (MEANS, (2, 2), [0.9, 1.1, 0.9, 1.1]),
        # micro-batches are cut from mini-batches: 1 2 | 3, then 4 5 | 6; the last is all there is
        ([0.09, 0.30, 0.05, 0.09, 0.30, 0.05], (3, 2), [0.927586, 1.072414, 0.9] * 2),
        ([*MEANS, 0.2], (4, 4), [*SCALES, 1.0]),
        # an empty response takes its place in the cut, and no part in a statistic
        ([0.05, None, 0.09, 0.30], (4, 2), [0.9, 0.0, 0.927586, 1.072414]),
        ([0.05, 0.30, None, None], (2, 1), [0.9, 1.0, 0.0, 0.0]),
        # more rows than there are
        (MEANS, (128, 16), SCALES),
    ],
)
def test_authors_scopes_by_hand(means, rows, expected):  # T30
    assert_close(scales_of(means, **scopes(*rows)), torch.tensor(expected))


def test_authors_scopes_depend_on_how_the_batch_is_cut_and_ours_do_not():  # T30
    # the third response at micro-batches of 1, 2 and 4: z / mean z is 1, 0.28 / 0.64, 0.28 / 0.36
    for micro, expected in ((1, 1.0), (2, 0.943750), (4, 0.977778)):
        scale = scales_of(MEANS, **scopes(4, micro))[2]
        assert_close(scale, torch.tensor(expected))
    order = [0, 2, 1, 3]
    reordered = [MEANS[row] for row in order]
    assert scales_of(reordered).equal(scales_of(MEANS)[order])
    cut = scopes(4, 2)
    assert not torch.allclose(scales_of(reordered, **cut), scales_of(MEANS, **cut)[order])


def test_fixed_ends_have_no_use_for_micro_batches():
    expected = torch.tensor([0.9, 0.932, 0.956, 1.1])
    assert_close(scales_of(MEANS, scale_max=1.1, **scopes(4, 1)), expected)


def test_a_scaled_group_by_hand():
    scales = scales_of(MEANS)
    assert_close(scales.mean(), torch.tensor(1.0))
    assert_close(scales.square().mean(), torch.tensor(1.011296))
    # A = +-0.866024; the group's advantages no longer sum to 0
    advantages = group_advantages(torch.tensor([1.0, 0.0, 1.0, 0.0]), 4)
    scores = exact(torch.tensor(MEANS)[:, None])
    spread = token_advantages(EXACT, advantages, scores, torch.ones(4, 1).bool())[:, 0]
    assert_close(spread, torch.tensor([0.779422, -0.817911, 0.846779, -1.019984]))
    assert_close(spread.sum(), torch.tensor(-0.211695), rtol=1e-5, atol=0)


# --- example 2: from log-probs to the loss
#
# response     1                                   2                    3
# view - old   0   -2         0  -0.2      -0.1    -0.1      -2         0.2       (empty)
# S (k3)       0   1.135335   0  0.018731  0.004837   0.004837  1.135335  0.021403
# mean S       0.231781                            0.387192                       z = 0, 1
# scale        0.9                                 1.1
# kept         ceil(0.4 * 5) = 2                   ceil(0.4 * 3) = 2
LENGTHS = torch.tensor([5, 3, 0])
MASK = torch.arange(5) < LENGTHS[:, None]
OLD = torch.tensor([[-0.2, -1.0, -0.1, -0.5, -0.3], [-0.4, -0.6, -2.0, NAN, NAN], [NAN] * 5])
VIEW = torch.tensor([[-0.2, -3.0, -0.1, -0.7, -0.4], [-0.5, -2.6, -1.8, NAN, NAN], [NAN] * 5])
NEW = torch.tensor([[-0.1, -0.6, -0.1, -0.6, -0.3], [-0.9, -0.5, -0.5, NAN, NAN], [NAN] * 5])
ADVANTAGES = torch.tensor([0.8, -0.8, 0.0])
SCORES = {"patches": ViewScores(VIEW - OLD)}


def test_weights_by_hand():
    expected = torch.tensor([[0, 0.9, 0, 0.9, 0], [0, 1.1, 1.1, 0, 0], [0] * 5])
    assert_close(VPPO().token_weights(SCORES, MASK), expected)
    dependency = SCORES["patches"].dependency(MASK)
    means = torch.tensor([0.231781, 0.387192, 0.0])
    assert_close(response_mean(dependency, MASK), means, rtol=1e-5, atol=0)


def test_the_whole_objective_by_hand():  # T32
    # 1, token 2: ratio exp(0.4) = 1.491825 is clipped to 1.28:  -0.72 * 1.28           = -0.921600
    # 1, token 4: ratio exp(-0.1) = 0.904837:                    -0.72 * 0.904837       = -0.651483
    # 2, token 2: ratio exp(0.1) = 1.105171:                      0.88 * 1.105171       =  0.972550
    # 2, token 3: ratio exp(1.5) = 4.481689 meets the dual clip:  0.88 * 3              =  2.640000
    # sum 2.039467 / all 8 tokens = 0.254933;  / the 4 kept ones it would be 0.509867
    # responses (-1.573083 / 5 + 3.612550 / 3) / the 2 non-empty ones = 0.444783
    # -log p: (1.7 + 1.9) / 8 = 0.45;  0.254933 + 0.06 * 0.45 = 0.281933
    log_probs = NEW.clone().requires_grad_()
    spread = token_advantages(VPPO(), ADVANTAGES, SCORES, MASK)
    losses = clipped_surrogate(log_probs, OLD, spread, dual_clip=3.0)
    expected = torch.tensor([[0, -0.9216, 0, -0.651483, 0], [0, 0.97255, 2.64, 0, 0], [0] * 5])
    assert_close(losses[MASK], expected[MASK])
    policy_loss = token_mean(losses, MASK)
    assert_close(policy_loss, torch.tensor(0.254933))
    assert_close(sequence_mean(losses, MASK), torch.tensor(0.444783))
    total = policy_loss + 0.06 * token_mean(-log_probs, MASK)
    assert_close(total, torch.tensor(0.281933))

    # a token that was not kept learns from the entropy term alone (V10), and so do clipped ones;
    # the others of ratio r add r * (-A w) / 8
    total.backward()
    entropy = -0.06 / 8
    expected = torch.full((3, 5), entropy).masked_fill(~MASK, 0)
    expected[0, 3] += -0.651483 / 8
    expected[1, 1] += 0.972550 / 8
    assert_close(log_probs.grad[MASK], expected[MASK])


# --- which tokens are kept


def test_of_equal_tokens_the_first_are_kept():  # T28
    # ceil(0.4 * 5) = 2
    assert weights_of(torch.full((1, 5), 0.3)).tolist() == [[1, 1, 0, 0, 0]]
    # 40 and 50 are both at the clamp, so are the log-ratios 3 and 4 (k3 16.1 and 49.6)
    above = torch.tensor([[0.0, 40.0, 0.0, 0.0, 50.0]])
    assert weights_of(above, top_fraction=0.2, score_clamp=10.0).tolist() == [[0, 1, 0, 0, 0]]
    assert weights_of(above, top_fraction=0.2).tolist() == [[0, 0, 0, 0, 1]]
    scores = {"patches": ViewScores(torch.tensor([[0.0, 3.0, 0.0, 0.0, 4.0]]))}
    weights = VPPO(top_fraction=0.2).token_weights(scores, torch.ones(1, 5).bool())
    assert weights.tolist() == [[0, 1, 0, 0, 0]]


@pytest.mark.parametrize("percent", [1, 7, 30, 40, 60, 100])
@given(batch=batches())
def test_the_promised_share_is_kept(percent, batch):  # V1, T29
    selected = kept(batch.kls[0], batch.mask, percent / 100)
    assert selected.sum(1).equal(-(-percent * batch.mask.sum(1) // 100))
    assert not selected[~batch.mask].any()
    # and what is kept depends at least as much as what is not
    least_kept = batch.kls[0].masked_fill(~selected, INF).amin(1)
    most_left = batch.kls[0].masked_fill(selected | ~batch.mask, -INF).amax(1)
    assert (least_kept >= most_left).all()


@settings(max_examples=6)
@given(batches(), st.integers(1, 100), st.integers(1, 100))
def test_a_smaller_share_is_part_of_a_larger_one(batch, one, other):  # V1
    small, large = (
        kept(batch.kls[0], batch.mask, percent / 100) for percent in sorted((one, other))
    )
    assert (small <= large).all()


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
def test_only_the_order_of_dependencies_decides_what_is_kept(hundredths):  # V2
    dependency = torch.tensor([hundredths]) / 100
    mask = torch.ones_like(dependency).bool()
    for rising in (dependency.log1p(), dependency**2, 3 * dependency + 1):
        assert kept(rising, mask, 0.4).equal(kept(dependency, mask, 0.4))


@settings(max_examples=6)
@given(batches())
def test_permuted_tokens_have_permuted_weights_but_for_ties(batch):  # T28
    dependency = torch.rand(batch.mask.shape, generator=batch.generator, dtype=torch.float64)
    order = torch.randperm(batch.mask.shape[1], generator=batch.generator)
    assert_close(
        weights_of(dependency[:, order], batch.mask[:, order]),
        weights_of(dependency, batch.mask)[:, order],
    )


# --- the soft mask
#
# S           0          0.1        0.5        2          6          mean 1.72, deviation 2.259115
# z          -0.761360  -0.717095  -0.540035   0.123942   1.894547
# c = 0.414526 makes the mean of sigmoid(z - c) 0.4
SOFT = [0.235658, 0.243732, 0.277862, 0.427891, 0.814856]


def test_soft_mask_by_hand():
    dependency = torch.tensor([[0.0, 0.1, 0.5, 2.0, 6.0]])
    assert_close(weights_of(dependency, soft_mask=True), torch.tensor([SOFT]))
    # padding first, and a second response twice as dependent: z = 0, 1, scales 0.9 and 1.1
    dependency = torch.tensor([[99.0, 0.0, 0.1, 0.5, 2.0, 6.0]]) * torch.tensor([[1.0], [2.0]])
    mask = torch.tensor([[False, True, True, True, True, True]] * 2)
    weights = weights_of(dependency, mask, soft_mask=True)
    assert_close(weights[:, 1:], torch.tensor([[0.9], [1.1]]) * torch.tensor([SOFT]))
    assert weights[:, 0].tolist() == [0, 0]


def test_soft_mask_of_equal_tokens_is_the_same_for_all():
    dependency = torch.full((1, 7), 0.3)
    weights = weights_of(dependency, soft_mask=True, top_fraction=0.25)
    assert_close(weights, torch.full((1, 7), 0.25))


@settings(max_examples=6)
@given(batches(), st.sampled_from([0.01, 0.25, 0.4, 0.9]))
def test_soft_mask_averages_the_share_and_keeps_the_order(batch, target):  # V13
    settings = {"soft_mask": True, "top_fraction": target, "scale_min": 1.0}
    weights = weights_of(batch.kls[0], batch.mask, **settings)
    full = batch.mask.any(1)
    means = response_mean(weights, batch.mask)[full]
    assert_close(means, torch.full_like(means, target), rtol=1e-5, atol=1e-6)
    real = weights[batch.mask]
    assert ((real > 0) & (real < 1)).all()
    dependency = batch.kls[0].masked_fill(~batch.mask, NAN)  # not more than anything
    more_dependent = dependency[:, :, None] > dependency[:, None]
    assert (weights[:, :, None] >= weights[:, None])[more_dependent].all()


# --- scales of any batch


@st.composite
def mean_dependencies(draw):
    """Mean dependencies of 2 to 40 responses, at least 1e-3 apart from first to last."""
    thousandths = st.lists(st.integers(0, 3000), min_size=2, max_size=40)
    means = draw(thousandths.filter(lambda numbers: min(numbers) < max(numbers)))
    return torch.tensor(means, dtype=torch.float32)[:, None] / 1000


@given(mean_dependencies(), st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_dynamic_scales_average_one(means, least):  # V3, V4, V5
    scales = weights_of(means, scale_min=least)[:, 0]
    means = means[:, 0].double()
    assert_close(scales.mean(), torch.tensor(1.0), rtol=1e-6, atol=0)
    assert_close(scales[means.argmin()], torch.tensor(least))
    assert (scales <= least + (1 - least) * len(means) * (1 + 1e-6)).all()
    more_dependent = means[:, None] > means
    assert (scales[:, None] > scales)[more_dependent].all()
    # the range cancels: only the mean and the least are needed
    closed = least + (1 - least) * (means - means.min()) / (means.mean() - means.min())
    assert_close(scales, closed.float(), rtol=1e-5, atol=1e-6)


@given(mean_dependencies(), st.sampled_from([0.5, 2.0, 4.0]), st.sampled_from([0.0, 0.5]))
def test_scales_ignore_the_scale_and_offset_of_dependencies(means, factor, offset):  # V5
    # the tolerance is that of means moved in float32, of which the closest are 1e-3 apart
    assert_close(weights_of(factor * means + offset), weights_of(means), rtol=1e-3, atol=0)


def test_one_response_that_stands_out_takes_what_there_is_to_give():
    # z = 0 but for one: 0.9 + 0.1 * 1000
    means = [0.01] * 1000
    means[3] = 5.0
    scales = scales_of(means)
    assert_close(scales.max(), torch.tensor(100.9), rtol=1e-4, atol=0)
    assert_close(scales.min(), torch.tensor(0.9))


@settings(max_examples=6)
@given(batches(), st.sampled_from([(0.8, 1.2), (0.9, 0.9), (0.0, 3.0)]))
def test_fixed_ends_are_the_ends(batch, ends):  # V8
    least, most = ends
    settings = {"scale_min": least, "scale_max": most, "top_fraction": 1.0}
    dependency = batch.kls[0] + torch.arange(200.0)[:, None]
    weights = weights_of(dependency, batch.mask, **settings)[batch.mask]
    assert (weights >= least - 1e-6).all() and (weights <= most + 1e-6).all()
    if batch.mask.any(1).sum() > 1:
        assert_close(weights.min(), torch.tensor(least))
        assert_close(weights.max(), torch.tensor(most))


def test_no_range_no_scaling():  # V7
    assert scales_of([0.0, 0.9e-6]).tolist() == [1, 1]
    assert_close(scales_of([0.0, 1.1e-6]), torch.tensor([0.9, 1.1]))
    # the filter is not touched by that
    assert weights_of(torch.tensor([[0.1, 0.3], [0.3, 0.1]])).tolist() == [[0, 1], [1, 0]]


def test_the_order_of_tokens_makes_no_range():
    # sums of float32 differ by where they start, here by more than the range that counts
    dependency = 1000 * torch.rand(1000)
    reordered = torch.stack([dependency[torch.randperm(1000)] for _ in range(20)])
    means = reordered.sum(1) / 1000
    assert means.max() - means.min() > 1e-5
    assert weights_of(reordered, top_fraction=1.0).equal(torch.ones(20, 1000))


@settings(max_examples=6)
@given(batches())
def test_a_response_is_scaled_by_its_mean_over_real_tokens(batch):
    # as one token of that mean is; float64 or not makes no difference but the last digit
    settings = {"scale_max": 1.1, "top_fraction": 1.0}
    means = response_mean(batch.kls[0].double(), batch.mask)[:, None]
    single = weights_of(means.float(), batch.mask.any(1, keepdim=True), **settings)
    expected = torch.where(batch.mask, single, 0)
    known = means[batch.mask.any(1)]
    if len(known) and known.max() - known.min() > 1e-3:
        assert_close(weights_of(batch.kls[0], batch.mask, **settings), expected, rtol=1e-3, atol=0)


@settings(max_examples=6)
@given(batches())
def test_scales_alone_and_filter_alone_multiply_to_the_whole(batch):
    scaled, filtered, both = (
        dataclasses.replace(EXACT, **settings)
        for settings in ({"top_fraction": 1.0}, {"scale_min": 1.0}, {})
    )
    assert_close(batch.weights(both), batch.weights(scaled) * batch.weights(filtered))


@settings(max_examples=6)
@given(batches())
def test_without_filter_and_scaling_it_is_plain_grpo(batch):  # V6
    for chosen in ({}, {"scale_max": 1.0}, scopes(8, 4)):
        algorithm = VPPO(top_fraction=1.0, scale_min=1.0, **chosen)
        assert batch.weights(algorithm).equal(batch.weights(Algorithm()))


@settings(max_examples=6)
@given(batches())
def test_authors_scopes_are_the_formula_on_each_part(batch):  # V11
    # mini-batch and micro-batch alike: as if each had been a batch
    kls = batch.kls[0] + 1e-3  # no response without a score
    parts = [weights_of(kls[rows], batch.mask[rows]) for rows in torch.arange(200).split(8)]
    assert_close(weights_of(kls, batch.mask, **scopes(8, 8)), torch.cat(parts))
    # mini-batches are independent whatever the micro-batches
    whole = weights_of(kls, batch.mask, **scopes(8, 3))
    parts = [
        weights_of(kls[rows], batch.mask[rows], **scopes(8, 3))
        for rows in torch.arange(200).split(8)
    ]
    assert whole.equal(torch.cat(parts))


# --- what counts


def test_a_response_without_an_image_weighs_one_and_does_not_count():  # T6
    # k3 of -2 is 1.135335, of -0.1 0.004837
    log_ratio = torch.tensor([[-2.0, 0.0, -0.1], [0.0, 0.0, 0.0], [-0.1, 0.0, 0.0]])
    scores = {"patches": ViewScores(log_ratio)}
    mask = torch.ones(3, 3).bool()
    weights = VPPO().token_weights(scores, mask)
    assert_close(weights, torch.tensor([[1.1, 0, 1.1], [1, 1, 1], [0.9, 0.9, 0]]))
    # the authors' code does as with any other: z = 1, 0, 0.004261 / mean 0.334754, first tokens
    weights = VPPO(**scopes(3, 3)).token_weights(scores, mask)
    expected = [[1.198727, 0, 1.198727], [0.9, 0.9, 0], [0.901273, 0.901273, 0]]
    assert_close(weights, torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "log_ratio", "kl", "counts"),
    [
        ("k3", 0.0, None, False),
        ("k3", NAN, None, False),
        ("k3", 0.0, 0.5, False),
        # however small: S is 0 in float32, but the response was scored
        ("k3", 1e-9, None, True),
        ("k3", -1e-9, 0.0, True),
        ("kl", 0.0, 0.0, False),
        ("kl", NAN, NAN, False),
        ("kl", 0.0, 1e-30, True),
        ("kl", 1e-9, 0.0, True),
        # rounding errors of an exact score are below 0, and no less a score
        ("kl", 0.0, -1e-9, True),
    ],
)
def test_what_is_exactly_zero_everywhere_was_not_scored(estimator, log_ratio, kl, counts):
    # the second token of response 1 is the only one in question, its third is padding
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    ratios = torch.tensor([[0.0, log_ratio, 3.0], [1.0, 0.0, 0.0]])
    kls = None if kl is None else torch.tensor([[0.0, kl, 3.0], [1.0, 0.0, 0.0]])
    algorithm = VPPO(estimator=estimator, top_fraction=0.5)
    weights = algorithm.token_weights({"patches": ViewScores(ratios, kls)}, mask)[0]
    assert (weights.sum() < 1).item() == counts
    if not counts:
        assert weights.tolist() == [1, 1, 0]


def test_responses_of_advantage_zero_count_as_well():  # T31
    # leaving out the second and third, as a method that looks at one response at a time may
    assert_close(scales_of(MEANS), torch.tensor(SCALES))
    assert_close(scales_of([0.05, 0.30]), torch.tensor([0.9, 1.1]))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"scale_min": 0.9, "scale_max": 1.0}, False),
        ({"scale_min": 1.0, "scale_max": 1.1}, False),
        ({"scale_min": 1.0}, True),
        ({"scale_min": 1.0, "scale_max": 1.0}, True),
        ({"scale_min": 1.0, **scopes(8, 4)}, True),
    ],
)
def test_it_looks_at_one_response_at_a_time_only_without_scaling(settings, expected):  # T31
    assert VPPO(**settings).row_local == expected


def test_second_moment_of_the_gradient_is_that_of_the_weights():  # V12
    # a response's gradient is sum_t dL/dlog p_t * u_t; token scores u_t independent unit vectors
    rows, tokens, width = 20_000, 5, 16
    directions = torch.nn.functional.normalize(torch.randn(rows, tokens, width), dim=2)
    dependency = torch.rand(rows, tokens) * torch.rand(rows, 1)
    mask = torch.ones(rows, tokens).bool()
    advantages = torch.randn(rows)

    def second_moment(algorithm):
        log_probs = torch.zeros(rows, tokens, requires_grad=True)
        spread = token_advantages(algorithm, advantages, exact(dependency), mask)
        token_mean(clipped_surrogate(log_probs, torch.zeros(rows, tokens), spread), mask).backward()
        return torch.einsum("bt,bth->bh", log_probs.grad, directions).square().sum()

    plain = second_moment(Algorithm())
    # Monte Carlo of 20,000 responses is good to 2 %: the kept share, then that times mean scale^2
    filtered = second_moment(dataclasses.replace(EXACT, scale_min=1.0)) / plain
    assert_close(filtered, torch.tensor(0.4), rtol=0.02, atol=0)
    squares = weights_of(dependency, scale_min=0.0).amax(1).square().mean()
    assert squares > 1.1
    both = second_moment(dataclasses.replace(EXACT, scale_min=0.0)) / plain
    assert_close(both, 0.4 * squares, rtol=0.02, atol=0)


# --- which scores it reads


def test_it_reads_the_sampled_dependency_of_the_masked_view():
    assert VPPO().views() == {"patches": MaskPatches(0.5)}
    assert not VPPO().needs_exact_kl and EXACT.needs_exact_kl
    decoy = ViewScores(torch.rand(3, 5), torch.rand(3, 5))
    scores = {"patches": ViewScores(VIEW - OLD, decoy.kl), "blind": decoy}
    assert VPPO().token_weights(scores, MASK).equal(VPPO().token_weights(SCORES, MASK))


def test_score_clamp_limits_what_one_token_does_to_its_response():
    # mean S 20, 1, 0 and, clamped, 5, 1, 0:  z = 1, 0.05, 0 and 1, 0.2, 0
    dependency = torch.tensor([[40.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    settings = {"top_fraction": 1.0, "scale_max": 1.1}
    assert_close(weights_of(dependency, **settings)[1], torch.tensor([0.91, 0.91]))
    clamped = weights_of(dependency, score_clamp=10.0, **settings)
    assert_close(clamped[1], torch.tensor([0.94, 0.94]))


def test_a_view_that_was_not_scored_is_named():
    scores = {"blind": ViewScores(torch.zeros(1, 2))}
    with pytest.raises(ValueError, match=r"lack \['patches'\]: needed \['patches'\]"):
        VPPO().token_weights(scores, torch.ones(1, 2).bool())


def test_exact_dependency_must_have_been_scored():
    scores = {"patches": ViewScores(torch.zeros(1, 2))}
    with pytest.raises(ValueError, match="got kl=None"):
        EXACT.token_weights(scores, torch.ones(1, 2).bool())


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_fraction": 0.0}, r"top_fraction must be in \(0, 1\], got 0.0"),
        ({"top_fraction": 1.4}, r"top_fraction must be in \(0, 1\], got 1.4"),
        ({"top_fraction": NAN}, r"top_fraction must be in \(0, 1\], got nan"),
        ({"top_fraction": 1.0, "soft_mask": True}, "top_fraction must be below 1 for soft_mask"),
        ({"scale_min": -0.1}, r"scale_min must be in \[0, 1\], got -0.1"),
        ({"scale_min": 1.1}, r"scale_min must be in \[0, 1\], got 1.1"),
        ({"scale_min": NAN}, r"scale_min must be in \[0, 1\], got nan"),
        ({"scale_max": 0.89}, "scale_max must be at least scale_min and finite, .* got 0.89"),
        ({"scale_max": INF}, "scale_max must be .* got inf"),
        ({"scale_max": NAN}, "scale_max must be .* got nan"),
        ({"estimator": "low_var_kl"}, r"one of \('k3', 'kl'\), got 'low_var_kl'"),
        ({"score_clamp": 0.0}, "score_clamp must be above 0, .* got 0.0"),
        (scopes(16, 128), "micro_batch_rows must be no more than mini_batch_rows, 16, got 128"),
        (scopes(4, 0), "micro_batch_rows must be a whole number of at least 1, .* got 0"),
        (scopes(-4, 2), "mini_batch_rows must be a whole number of at least 1, .* got -4"),
        (scopes(4.0, 2), "mini_batch_rows must be a whole number of at least 1, .* got 4.0"),
        (scopes(None, 4), "must both be given or neither, got None and 4"),
        (scopes(4, None), "must both be given or neither, got 4 and None"),
    ],
)
def test_settings_out_of_range_raise(settings, message, annotations_off):
    with pytest.raises(ValueError, match=message):
        VPPO(**settings)


def test_settings_at_the_ends_of_their_ranges_are_fine():
    VPPO(top_fraction=1.0, scale_min=0.0, scale_max=0.0, score_clamp=None, **scopes(1, 1))
    VPPO(scale_min=1.0, scale_max=1.0)


def test_defaults_are_the_published_values():
    assert VPPO() == VPPO(0.4, 0.9, None, "k3", 10.0, False, None)
