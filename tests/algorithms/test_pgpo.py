import pytest
import torch
from torch.testing import assert_close

from sightline import (
    PGPO,
    Algorithm,
    Blind,
    ViewScores,
    clipped_surrogate,
    group_advantages,
    sequence_mean,
    token_advantages,
    token_mean,
)

INF, NAN = float("inf"), float("nan")


def exact(dependency):
    """Scores with the given exact dependencies; the sampled ones must not matter."""
    return {"blind": ViewScores(torch.full_like(dependency, NAN), dependency)}


def weights_of(dependency, **settings):
    """The weights of one response with these dependencies."""
    dependency = torch.tensor([dependency])
    mask = torch.ones_like(dependency).bool()
    return PGPO(estimator="kl", **settings).token_weights(exact(dependency), mask)[0]


# --- example 1: five tokens
#
# S               0    0.1       0.5       2         6
# s = log(1 + S)  0    0.095310  0.405465  1.098612  1.945910
# I = s / 1.9459  0    0.048980  0.208368  0.564575  1.000000
# below 0.4: I / 0.4;  from 0.4 on: 1 + 2 (I - 0.4) / 0.6
# omega           0    0.122449  0.520920  1.548583  3.000000     sum 5.191952
# w = omega * 5 / 5.191952 = omega * 0.963029
SCORES = [0.0, 0.1, 0.5, 2.0, 6.0]
OMEGA = [0.0, 0.122449, 0.520920, 1.548583, 3.000000]
WEIGHTS = [0.0, 0.117922, 0.501661, 1.491331, 2.889087]


def test_weights_by_hand():
    weights = weights_of(SCORES)
    assert_close(weights, torch.tensor(WEIGHTS))
    assert_close(weights.sum(), torch.tensor(5.0))
    # what E|gradient|^2 grows by if token scores are uncorrelated and of equal size
    assert_close(weights.square().mean(), torch.tensor(2.167291))
    assert_close(weights_of(SCORES, conserve_mass=False), torch.tensor(OMEGA))


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        (1.2, [0.0, 0.141507, 0.601993, 1.789597, 3.466904]),
        (-0.8, [0.0, -0.094338, -0.401328, -1.193064, -2.311269]),
    ],
)
def test_token_advantages_by_hand(advantage, expected):
    spread = token_advantages(
        PGPO(estimator="kl"),
        torch.tensor([advantage]),
        exact(torch.tensor([SCORES])),
        torch.ones(1, 5).bool(),
    )
    assert_close(spread, torch.tensor([expected]))


# The same I, other gates. For threshold 0.2, boost 1:
#   omega = 0, 0.048980 / 0.2, 1 + 0.008368 / 0.8, 1 + 0.364575 / 0.8, 1 + 0.8 / 0.8
#         = 0, 0.244898, 1.010460, 1.455719, 2, sum 4.711077, times 5 / 4.711077
@pytest.mark.parametrize(
    ("threshold", "boost", "expected"),
    [
        (0.2, 1.0, [0.0, 0.259918, 1.072430, 1.544996, 2.122657]),
        (0.2, 2.0, [0.0, 0.198226, 0.826354, 1.547158, 2.428263]),
        (0.4, 1.0, [0.0, 0.156279, 0.664835, 1.626343, 2.552544]),
        (0.4, 2.0, WEIGHTS),
        (0.6, 1.0, [0.0, 0.121122, 0.515272, 1.396134, 2.967473]),
        (0.6, 2.0, [0.0, 0.093404, 0.397357, 1.076643, 3.432596]),
        # suppression only: all below the threshold but the last, which is at it; w ~ I
        (1.0, 2.0, [0.0, 0.134418, 0.571835, 1.549394, 2.744354]),
        # boosting only: omega = 1 + 2 I, the least dependent token included
        (0.0, 2.0, [0.578446, 0.635111, 0.819505, 1.231599, 1.735339]),
        (0.0, 0.0, [1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_gate_by_hand(threshold, boost, expected):
    assert_close(weights_of(SCORES, threshold=threshold, boost=boost), torch.tensor(expected))


# The threshold as a quantile: floor(5 * 0.4) = 2 tokens lie below it, so it is I = 0.208368.
#   omega = 0, 0.048980 / 0.208368, 1, 1 + 2 * 0.356207 / 0.791632, 3
#         = 0, 0.235064, 1, 1.899931, 3, sum 6.134995, times 5 / 6.134995
# A floor of 0.1 raises the first to 0.1 and nothing else.
def test_gate_at_a_quantile_and_with_a_floor_by_hand():
    settings = {"quantile": True, "conserve_mass": False}
    omega = torch.tensor([0.0, 0.235064, 1.0, 1.899931, 3.0])
    assert_close(weights_of(SCORES, **settings), omega)
    conserved = torch.tensor([0.0, 0.191577, 0.814997, 1.548437, 2.444990])
    assert_close(weights_of(SCORES, quantile=True), conserved)
    raised = torch.tensor([0.1, 0.235064, 1.0, 1.899931, 3.0])
    assert_close(weights_of(SCORES, weight_floor=0.1, **settings), raised)
    # without the quantile the second token, 0.122449, is under a floor of 0.2 as well
    floored = torch.tensor([0.2, 0.2, 0.520920, 1.548583, 3.0])
    assert_close(weights_of(SCORES, weight_floor=0.2, conserve_mass=False), floored)
    # at 1 the most dependent token alone is not below; at 0 none is
    assert_close(weights_of(SCORES, threshold=1.0, **settings)[-1], torch.tensor(1.0))
    assert_close(
        weights_of(SCORES, threshold=0.0, **settings),
        weights_of(SCORES, threshold=0.0, conserve_mass=False),
    )


def test_the_quantile_counts_real_tokens_only():  # T34
    dependency = torch.tensor([[*SCORES, INF, NAN, 0.3], [0.1, 0.4, INF, 0, 0, 0, 0, 0]])
    mask = torch.tensor([[1] * 5 + [0] * 3, [1] * 2 + [0] * 6]).bool()
    algorithm = PGPO(estimator="kl", quantile=True, conserve_mass=False)
    weights = algorithm.token_weights(exact(dependency), mask)
    assert_close(weights[0, :5], torch.tensor([0.0, 0.235064, 1.0, 1.899931, 3.0]))
    # floor(2 * 0.4) = 0: the least dependent token is the threshold, I = 0
    assert_close(weights[1, :2], torch.tensor([1.0, 3.0]))
    assert not weights[~mask].any()


# --- example 2: a group of four, from rewards to the loss
#
# R                1.0       0.1        1.0       0.0
# A                0.863635  -0.772726  0.863635  -0.954544
# tokens           3         5          2         4
# response 3 has equal scores, so its weights are 1
ADVANTAGES = torch.tensor([0.863635, -0.772726, 0.863635, -0.954544])
GROUP_SCORES = torch.tensor(
    [
        [0.02, 0.9, 3.0, NAN, NAN],
        [0.0, 0.3, 0.3, 1.5, 0.05],
        [0.4, 0.4, INF, INF, INF],
        [0.1, 0.0, 2.5, 0.7, 99.0],
    ]
)
GROUP_MASK = torch.tensor([[1, 1, 1, 0, 0], [1] * 5, [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]).bool()
GROUP_WEIGHTS = torch.tensor(
    [
        [0.0, 0.848979, 2.151021, 0, 0],
        [0.0, 0.784081, 0.784081, 3.286027, 0.145810],
        [1.0, 1.0, 0, 0, 0],
        [0.178225, 0.0, 2.811124, 1.010650, 0],
    ]
)
LOG_RATIOS = torch.tensor(
    [
        [0.0, 0.30, -0.30, 0, 0],
        [0.1, -0.1, 0.0, 1.3, -0.4],
        [0.0, 0.0, 0, 0, 0],
        [0.05, 0.0, -0.25, 0.2, 0],
    ]
)
# -A w clip(exp(log-ratio), 0.8, 1.28) where that is the larger; a few of them:
#   1, token 2: the ratio 1.349859 is clipped to 1.28:  -0.863635 * 0.848979 * 1.28    = -0.938506
#   2, token 4: the ratio 3.669297 meets the dual clip:  0.772726 * 3.286027 * 3       =  7.617593
#   4, token 3: the ratio 0.778801 is clipped to 0.8:    0.954544 * 2.811124 * 0.8     =  2.146673
LOSSES = torch.tensor(
    [
        [0.0, -0.938506, -1.376216, 0, 0],
        [0.0, 0.548223, 0.605880, 7.617593, 0.090137],
        [-0.863635, -0.863635, 0, 0, 0],
        [0.178846, 0.0, 2.146673, 1.178299, 0],
    ]
)


def group_losses(algorithm):
    advantages = group_advantages(torch.tensor([1.0, 0.1, 1.0, 0.0]), 4)
    spread = token_advantages(algorithm, advantages, exact(GROUP_SCORES), GROUP_MASK)
    return clipped_surrogate(LOG_RATIOS, torch.zeros(4, 5), spread, dual_clip=3.0)


def test_a_group_of_responses_by_hand():
    weights = PGPO(estimator="kl").token_weights(exact(GROUP_SCORES), GROUP_MASK)
    assert_close(weights, GROUP_WEIGHTS)
    # a response keeps its advantage: the sum over its tokens is tokens times A
    spread = token_advantages(PGPO(estimator="kl"), ADVANTAGES, exact(GROUP_SCORES), GROUP_MASK)
    per_response = torch.tensor([2.590904, -3.863629, 1.727270, -3.818175])
    assert_close(spread.sum(1), per_response)
    # so the group keeps a mean of 0 if responses count alike, and has none if tokens do
    assert_close((spread.sum(1) / GROUP_MASK.sum(1)).mean(), torch.tensor(0.0))
    assert_close(spread.sum(), torch.tensor(-3.363630))
    plain = token_advantages(Algorithm(), ADVANTAGES, {}, GROUP_MASK)
    assert_close(plain.sum(), torch.tensor(-3.363630))


def test_a_group_of_responses_through_the_loss():
    # sum of LOSSES 8.323659 / 14 tokens = 0.594547
    # means of responses -0.771574, 1.772367, -0.863635, 0.875954: mean 0.253278
    losses = group_losses(PGPO(estimator="kl"))
    assert_close(losses, LOSSES)
    assert_close(token_mean(losses, GROUP_MASK), torch.tensor(0.594547))
    assert_close(sequence_mean(losses, GROUP_MASK), torch.tensor(0.253278))

    losses = group_losses(Algorithm())
    assert_close(token_mean(losses, GROUP_MASK), torch.tensor(0.343833))
    assert_close(sequence_mean(losses, GROUP_MASK), torch.tensor(0.072769))


# --- which scores it reads


def test_it_reads_the_sampled_dependency_of_the_blind_view():
    assert PGPO().views() == {"blind": Blind()}
    # log-ratio  0  -2        0.1       -0.2      5
    # k3         0  1.135335  0.005171  0.018731  142.4, clamped to 10
    log_ratio = torch.tensor([[0.0, -2.0, 0.1, -0.2, 5.0]])
    mask = torch.ones(1, 5).bool()
    decoy = ViewScores(torch.rand(1, 5), torch.rand(1, 5))
    scores = {"blind": ViewScores(log_ratio, decoy.kl), "patches": decoy}
    dependency = [0.0, 1.135335, 0.005171, 0.018731, 10.0]
    assert_close(PGPO().token_weights(scores, mask)[0], weights_of(dependency))


def test_score_clamp_limits_the_scale_of_a_response():
    limited = [0.0, 0.5, 4.0]
    assert_close(weights_of([0.0, 0.5, 40.0], score_clamp=4.0), weights_of(limited))
    assert_close(weights_of([0.0, 0.5, 40.0]), weights_of([0.0, 0.5, 10.0]))
    unlimited = weights_of([0.0, 0.5, 40.0], score_clamp=None)
    assert unlimited[2] > weights_of([0.0, 0.5, 10.0])[2] + 0.1


def test_a_view_that_was_not_scored_is_named():
    scores = {"patches": ViewScores(torch.zeros(1, 2))}
    with pytest.raises(
        ValueError, match=r"lack \['blind'\]: needed \['blind'\], got \['patches'\]"
    ):
        PGPO().token_weights(scores, torch.ones(1, 2).bool())


def test_exact_dependency_must_have_been_scored():
    scores = {"blind": ViewScores(torch.zeros(1, 2))}
    with pytest.raises(ValueError, match="got kl=None"):
        PGPO(estimator="kl").token_weights(scores, torch.ones(1, 2).bool())


def test_infinite_dependency_needs_the_clamp():
    assert_close(weights_of([0.0, INF]), torch.tensor([0.0, 2.0]))
    with pytest.raises(ValueError, match="must be finite without a clamp, got inf"):
        weights_of([0.0, INF], score_clamp=None)


# --- edges


@pytest.mark.parametrize("conserve_mass", [True, False])
@pytest.mark.parametrize("dependency", [[0.0], [3.0], [0.0, 0.0], [0.4, 0.4, 0.4], [NAN, 0.0]])
def test_without_a_difference_to_go_by_all_tokens_weigh_one(dependency, conserve_mass):
    weights = weights_of(dependency, conserve_mass=conserve_mass)
    assert weights.equal(torch.ones(len(dependency)))


def test_min_range_is_where_noise_ends():  # T24
    # s = log(1 + S) of the third token is the range of the response
    tokens = 4
    for dependency, min_range in ((0.9e-6, 1e-6), (0.0078, 1e-2), (0.0, 0.0)):
        noise = [0.0, 0.0, dependency, 0.0]
        assert weights_of(noise, min_range=min_range).equal(torch.ones(tokens))
    for dependency, min_range in ((1.2e-6, 1e-6), (0.0102, 1e-2), (1e-30, 0.0)):
        signal = [0.0, 0.0, dependency, 0.0]
        weights = weights_of(signal, min_range=min_range)
        assert_close(weights, torch.tensor([0.0, 0.0, 4.0, 0.0]))
    # the default keeps the paper's formula above exact ties, noise of bf16 included
    #   S 0, 0.002, 0.004, 0.010;  I 0, 0.200797, 0.401194, 0.999999
    noise = [0.0, 0.002, 0.004, 0.010]
    assert_close(weights_of(noise), torch.tensor([0.0, 0.445625, 0.891245, 2.663130]))


def test_a_range_of_exactly_min_range_is_noise():
    spread = torch.tensor([0.5]).log1p().item()
    assert weights_of([0.0, 0.5], min_range=spread).equal(torch.ones(2))


def test_of_two_tokens_the_more_dependent_takes_all():
    assert_close(weights_of([0.7, 0.1]), torch.tensor([2.0, 0.0]))


@pytest.mark.parametrize("length", [1, 200, 1000])
def test_one_anchor_takes_the_whole_mass(length):  # T25
    dependency = [0.01] * length
    dependency[length // 2] = 5.0
    weights = weights_of(dependency)
    assert_close(weights.max(), torch.tensor(float(length)))
    # effective tokens
    assert_close(weights.sum() ** 2 / weights.square().sum(), torch.tensor(1.0))


def test_gate_opens_at_a_share_of_the_log_scale():
    # with least score 0, a token weighs 1 or more if 1 + S >= (1 + S_max)^0.4:
    # 0.552 for 2, 1.048 for 5, 1.610 for 10
    for most, edge in ((2.0, 0.552), (5.0, 1.048), (10.0, 1.610)):
        omega = weights_of([0.0, edge - 1e-3, edge + 1e-3, most], conserve_mass=False)
        assert omega[1] < 1 < omega[2]


def test_an_empty_response_weighs_nothing():
    mask = torch.tensor([[False, False], [True, True]])
    weights = PGPO().token_weights({"blind": ViewScores(torch.tensor([[NAN, INF], [0, 1]]))}, mask)
    assert weights.tolist() == [[0, 0], [0, 2]]


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": -0.1}, r"threshold must be in \[0, 1\], got -0.1"),
        ({"threshold": 1.4}, r"threshold must be in \[0, 1\], got 1.4"),
        ({"threshold": NAN}, r"threshold must be in \[0, 1\], got nan"),
        ({"boost": -1.0}, "boost must be at least 0 and finite, got -1.0"),
        ({"boost": INF}, "boost must be at least 0 and finite, got inf"),
        ({"boost": NAN}, "boost must be at least 0 and finite, got nan"),
        ({"estimator": "low_var_kl"}, r"one of \('k3', 'kl'\), got 'low_var_kl'"),
        ({"score_clamp": 0.0}, "score_clamp must be above 0, .* got 0.0"),
        ({"score_clamp": NAN}, "score_clamp must be above 0, .* got nan"),
        ({"min_range": -1e-6}, "min_range must be at least 0, got -1e-06"),
        ({"min_range": NAN}, "min_range must be at least 0, got nan"),
    ],
)
def test_settings_out_of_range_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        PGPO(**settings)


def test_settings_at_the_ends_of_their_ranges_are_fine():
    PGPO(threshold=0.0, boost=0.0, score_clamp=None, min_range=0.0)
    PGPO(threshold=1.0)


def test_defaults_are_the_published_values():
    assert PGPO() == PGPO(0.4, 2.0, "k3", 10.0, 1e-6, True)


def test_the_blind_view_is_hidden_in_one_of_two_ways():
    assert Blind() == Blind(by="auto") != Blind(by="mask") != Blind(by="drop")
    with pytest.raises(ValueError, match=r"by must be one of .*'drop', 'mask'.*, got 'zero'"):
        Blind(by="zero")
