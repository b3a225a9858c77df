"""What holds for every algorithm on random responses, then what holds for each paper alone."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from sightline import (
    ALGORITHMS,
    PGPO,
    PRPO,
    VPPO,
    Algorithm,
    ViewScores,
    clipped_surrogate,
    response_mean,
    sequence_mean,
    token_advantages,
    token_mean,
)

INF, NAN = float("inf"), float("nan")

CASES = {name: method() for name, method in ALGORITHMS.items()}
CASES["pgpo, exact"] = PGPO(estimator="kl", score_clamp=None)
CASES["pgpo, quantile and floor"] = PGPO(quantile=True, weight_floor=0.1)
CASES["vppo, exact"] = VPPO(estimator="kl", score_clamp=None)
CASES["vppo, filter alone"] = VPPO(scale_min=1.0)
CASES["vppo, soft"] = VPPO(soft_mask=True)
CASES["vppo, authors' scopes"] = VPPO(mini_batch_rows=8, micro_batch_rows=4)
CASES["prpo, contrast"] = PRPO(rvd_mode="contrast")
CASES["prpo, conserve"] = PRPO(par_mode="conserve")
CASES["prpo, exact"] = PRPO(estimator="kl", score_clamp=None)
CASES["prpo, batch"] = PRPO(mass="batch")


def every(kind):
    """The algorithms of this kind, one test each."""
    chosen = {name: algorithm for name, algorithm in CASES.items() if kind(algorithm)}
    return pytest.mark.parametrize("algorithm", chosen.values(), ids=chosen.keys())


every_algorithm = every(lambda algorithm: True)
every_row_local_algorithm = every(lambda algorithm: algorithm.row_local)
# the authors' scopes of VPPO cut the batch by position and count responses without an image
every_algorithm_on_the_whole_batch = every(
    lambda algorithm: getattr(algorithm, "mini_batch_rows", None) is None
)
# VPPO's filter keeps a fixed share of tokens, and of equal ones the first
every_algorithm_without_a_filter = every(lambda algorithm: not isinstance(algorithm, VPPO))
# PRPO raises tokens and lowers none, unless told to conserve
every_algorithm_that_conserves = every(
    lambda algorithm: (
        not isinstance(algorithm, VPPO) and getattr(algorithm, "par_mode", "conserve") == "conserve"
    )
)


@dataclass(repr=False)
class Batch:
    """Responses of 0 to T tokens anywhere in their row, and scores enough for three views."""

    log_ratios: Tensor
    kls: Tensor
    mask: Tensor
    advantages: Tensor
    generator: torch.Generator

    def scores(self, algorithm):
        names = algorithm.views()
        triples = zip(names, self.log_ratios, self.kls, strict=False)
        return {name: ViewScores(log_ratio, kl) for name, log_ratio, kl in triples}

    def weights(self, algorithm):
        return algorithm.token_weights(self.scores(algorithm), self.mask)

    def map(self, change):
        """The batch with ``change`` made to each of its (..., B, T) tensors."""
        return dataclasses.replace(
            self,
            log_ratios=change(self.log_ratios),
            kls=change(self.kls),
            mask=change(self.mask),
        )


@st.composite
def batches(draw):
    """200 responses, so 10 examples are 2,000; exponential dependencies, some exactly 0."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.02, 0.3, 2.0]))
    sparsity = draw(st.sampled_from([0.0, 0.5, 0.9]))
    shape = 200, draw(st.integers(1, 60))

    def dependencies():
        scores = torch.empty(3, *shape).exponential_(1 / scale, generator=generator)
        return scores.masked_fill(torch.rand(3, *shape, generator=generator) < sparsity, 0)

    density = torch.rand(200, 1, generator=generator).round(decimals=1)
    signs = torch.randn(3, *shape, generator=generator).sign()
    return Batch(
        log_ratios=signs * dependencies(),
        kls=dependencies(),
        mask=torch.rand(shape, generator=generator) < density,
        advantages=torch.randn(200, generator=generator),
        generator=generator,
    )


# --- every algorithm


@every_algorithm
@settings(max_examples=6)
@given(batches())
def test_weights_are_finite_and_never_flip_an_advantage(algorithm, batch):
    weights = batch.weights(algorithm)
    assert weights.isfinite().all() and (weights >= 0).all()
    spread = token_advantages(algorithm, batch.advantages, batch.scores(algorithm), batch.mask)
    assert (spread * batch.advantages[:, None] >= 0).all()
    # linear in the advantage, and nothing but the product
    assert_close(spread, batch.advantages[:, None] * weights)


@every_algorithm
@settings(max_examples=6)
@given(batches())
def test_padding_weighs_nothing_and_changes_nothing(algorithm, batch):  # T34
    weights = batch.weights(algorithm)
    assert (weights[~batch.mask] == 0).all()
    for garbage in (NAN, INF, -INF, 1e30):
        fouled = dataclasses.replace(
            batch,
            log_ratios=batch.log_ratios.masked_fill(~batch.mask, garbage),
            kls=batch.kls.masked_fill(~batch.mask, garbage),
        )
        assert fouled.weights(algorithm).equal(weights)


@every_algorithm
@settings(max_examples=6)
@given(batches())
def test_more_padding_changes_nothing(algorithm, batch):  # T34
    wider = batch.map(lambda tensor: torch.nn.functional.pad(tensor, (3, 17)))
    weights = wider.weights(algorithm)
    expected = torch.nn.functional.pad(batch.weights(algorithm), (3, 17))
    assert_close(weights, expected)


@every_algorithm_without_a_filter
@settings(max_examples=6)
@given(batches())
def test_flat_dependency_is_plain_grpo(algorithm, batch):
    flat = dataclasses.replace(
        batch,
        log_ratios=batch.log_ratios[..., :1].expand_as(batch.log_ratios),
        kls=batch.kls[..., :1].expand_as(batch.kls),
    )
    assert flat.weights(algorithm).equal(batch.mask.float())


@every_algorithm_that_conserves
@settings(max_examples=6)
@given(batches())
def test_weights_of_a_response_sum_to_its_length(algorithm, batch):
    lengths = batch.mask.sum(1)
    assert_close(batch.weights(algorithm).sum(1), lengths.float(), rtol=1e-5, atol=0)


@every_algorithm
@settings(max_examples=6)
@given(batches())
def test_no_gradient_flows_into_the_weights_or_out_of_them(algorithm, batch):
    log_ratios, kls = batch.log_ratios.requires_grad_(), batch.kls.requires_grad_()
    weights = dataclasses.replace(batch, log_ratios=log_ratios, kls=kls).weights(algorithm)
    assert not weights.requires_grad


@every_algorithm_on_the_whole_batch
@settings(max_examples=6)
@given(batches())
def test_permuted_responses_have_permuted_weights(algorithm, batch):
    order = torch.randperm(200, generator=batch.generator)
    permuted = batch.map(lambda tensor: tensor[..., order, :])
    assert_close(permuted.weights(algorithm), batch.weights(algorithm)[order])


@every_algorithm_without_a_filter
@settings(max_examples=6)
@given(batches())
def test_permuted_tokens_have_permuted_weights(algorithm, batch):
    order = torch.randperm(batch.mask.shape[1], generator=batch.generator)
    permuted = batch.map(lambda tensor: tensor[..., order])
    assert_close(permuted.weights(algorithm), batch.weights(algorithm)[:, order])


@every_row_local_algorithm
@settings(max_examples=6)
@given(batches())
def test_other_responses_do_not_matter(algorithm, batch):  # T30, T31: P7 for PGPO
    weights = batch.weights(algorithm)
    alone = batch.map(lambda tensor: tensor[..., 4:7, :])
    assert_close(alone.weights(algorithm), weights[4:7])
    others = torch.arange(200)[:, None] != 5
    changed = dataclasses.replace(
        batch,
        log_ratios=torch.where(others, 3 * batch.log_ratios.flip(-1), batch.log_ratios),
        kls=torch.where(others, 3 * batch.kls.flip(-1), batch.kls),
    )
    assert changed.weights(algorithm)[5].equal(weights[5])


@every_algorithm
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_extreme_scores_give_finite_float32_weights(algorithm, dtype):
    # rows: empty, one token, log-ratios of +-80, exact scores up to 1e6 (65504 ends float16)
    log_ratio = torch.tensor([[0.0] * 4, [80, 0, 0, 0], [80, -80, 1e-4, 0], [-80, 80, 0, 5]])
    kl = torch.tensor([[0.0] * 4, [6e4, 0, 0, 0], [6e4, 1e-4, 0, 0], [-1.0, 0, 6e4, 1e3]])
    if dtype in (torch.float32, torch.float64, torch.bfloat16):
        kl = kl * 1e6 / 6e4
    mask = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    scores = {name: ViewScores(log_ratio.to(dtype), kl.to(dtype)) for name in algorithm.views()}
    weights = algorithm.token_weights(scores, mask)
    assert weights.dtype == torch.float32
    assert weights.isfinite().all() and (weights >= 0).all()
    assert (weights.sum(1) > 0).tolist() == [False, True, True, True]
    if isinstance(algorithm, PGPO):
        assert_close(weights.sum(1), torch.tensor([0.0, 1.0, 3.0, 4.0]))


@every_algorithm
@settings(max_examples=6)
@given(batches())
def test_inputs_are_left_as_they_were(algorithm, batch):
    before = batch.map(torch.clone)
    token_advantages(algorithm, batch.advantages, batch.scores(algorithm), batch.mask)
    assert before.log_ratios.equal(batch.log_ratios)
    assert before.kls.equal(batch.kls)
    assert before.mask.equal(batch.mask)


@every_algorithm_on_the_whole_batch
@settings(max_examples=6)
@given(batches())
def test_a_row_without_an_image_weighs_one_and_moves_no_other(algorithm, batch):  # T6
    no_image = torch.rand(200, 1, generator=batch.generator) < 0.5
    mixed = dataclasses.replace(
        batch,
        log_ratios=batch.log_ratios.masked_fill(no_image, 0),
        kls=batch.kls.masked_fill(no_image, 0),
    )
    with_image = ~no_image[:, 0]
    rest = batch.map(lambda tensor: tensor[..., with_image, :])
    expected = batch.mask.float()
    expected[with_image] = rest.weights(algorithm)
    assert mixed.weights(algorithm).equal(expected)


@every_algorithm_on_the_whole_batch
@settings(max_examples=6)
@given(batches())
def test_a_batch_without_images_is_plain_grpo_bit_for_bit(algorithm, batch):
    text = dataclasses.replace(batch, log_ratios=0 * batch.log_ratios, kls=0 * batch.kls)
    log_probs = batch.log_ratios[0]
    for mean in (token_mean, sequence_mean):
        losses = [
            mean(
                clipped_surrogate(
                    log_probs,
                    0 * log_probs,
                    token_advantages(method, batch.advantages, text.scores(method), batch.mask),
                ),
                batch.mask,
            )
            for method in (algorithm, Algorithm())
        ]
        assert losses[0].equal(losses[1])


@every_algorithm
@settings(max_examples=6)
@given(batches())
def test_a_nan_score_counts_as_zero_and_is_counted(algorithm, batch):
    broken = torch.rand(batch.mask.shape, generator=batch.generator) < 0.2
    zeros, nans = (
        dataclasses.replace(
            batch,
            log_ratios=batch.log_ratios.masked_fill(broken, value),
            kls=batch.kls.masked_fill(broken, value),
        )
        for value in (0.0, NAN)
    )
    assert nans.weights(algorithm).equal(zeros.weights(algorithm))
    for score in nans.scores(algorithm).values():
        assert score.not_finite(batch.mask).equal(broken & batch.mask)


@every_algorithm
def test_a_wrong_hyper_parameter_raises_with_its_value(algorithm, annotations_off):
    # no number of any method may be NaN, and no name unknown
    for field in dataclasses.fields(algorithm):
        value = getattr(algorithm, field.name)
        if isinstance(value, bool):
            continue
        wrong = "no such name" if isinstance(value, str) else NAN
        with pytest.raises(ValueError, match=f"{field.name} .* got '?{wrong}"):
            dataclasses.replace(algorithm, **{field.name: wrong})


# --- PGPO


EXACT = PGPO(estimator="kl", score_clamp=None)


def pgpo_weights(dependency, mask=None, **settings):
    """PGPO's weights for exact dependencies, of every token unless a mask is given."""
    mask = torch.ones_like(dependency).bool() if mask is None else mask
    scores = {"blind": ViewScores(torch.zeros_like(dependency), dependency)}
    return dataclasses.replace(EXACT, **settings).token_weights(scores, mask)


def spreads(batch):
    """Range of log(1 + S) over the real tokens of each response; -inf for an empty one."""
    log_scores = batch.kls[0].log1p()
    most = log_scores.masked_fill(~batch.mask, -INF).amax(1)
    return most - log_scores.masked_fill(~batch.mask, INF).amin(1)


@settings(max_examples=6)
@given(batches())
def test_pgpo_keeps_the_advantage_of_each_response(batch):  # P1, P2
    spread = token_advantages(EXACT, batch.advantages, batch.scores(EXACT), batch.mask)
    lengths = batch.mask.sum(1)
    assert_close(spread.sum(1), lengths * batch.advantages, rtol=1e-5, atol=1e-5)
    # advantages of sum 0 keep a mean of 0 if responses count alike
    real = lengths > 0
    centred = torch.where(real, batch.advantages - batch.advantages[real].mean(), 0)
    spread = token_advantages(EXACT, centred, batch.scores(EXACT), batch.mask)
    assert_close(response_mean(spread, batch.mask).sum(), torch.tensor(0.0))


@settings(max_examples=6)
@given(batches())
def test_pgpo_gives_the_least_dependent_token_nothing(batch):  # P3
    weights = batch.weights(EXACT).masked_fill(~batch.mask, INF)
    assert (weights.amin(1)[spreads(batch) > 1e-6] == 0).all()


@given(
    batches(),
    st.sampled_from([0.0, 0.2, 0.4, 1.0]),
    st.sampled_from([0.0, 1.0, 2.0, 7.0]),
)
def test_pgpo_weights_are_bounded(batch, threshold, boost):  # P4, P11
    settings = {"threshold": threshold, "boost": boost}
    omega = pgpo_weights(batch.kls[0], batch.mask, conserve_mass=False, **settings)
    assert omega.isfinite().all()
    assert (omega >= 0).all() and (omega <= 1 + boost).all()
    weights = pgpo_weights(batch.kls[0], batch.mask, **settings)
    lengths = batch.mask.sum(1, keepdim=True)
    # one rounding of float32 above the length is within it
    assert (weights >= 0).all() and (weights <= lengths * (1 + 1e-6)).all()


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=60),
    st.sampled_from([0.01, 0.2, 0.4, 0.99]),
    st.sampled_from([0.1, 1.0, 2.0]),
)
def test_pgpo_keeps_the_order_of_dependencies(hundredths, threshold, boost):  # P5
    dependency = torch.tensor([hundredths]) / 100
    weights = pgpo_weights(dependency, threshold=threshold, boost=boost)
    more_dependent = dependency[0][:, None] > dependency[0]
    assert (weights[0][:, None] > weights[0])[more_dependent].all()


@settings(max_examples=6)
@given(batches(), st.floats(0, 1))
def test_pgpo_weight_rises_with_the_tokens_own_dependency(batch, place):  # P6
    dependency = batch.kls[0][:1].expand(200, -1).clone()
    token = int(place * (dependency.shape[1] - 1))
    # from below the least dependent other token to above the most dependent one
    dependency[:, token] = torch.linspace(0, 1.5, 200) * dependency[0].max()
    own = pgpo_weights(dependency)[:, token]
    # a rescaled weight carries one rounding of float32
    assert (own.diff() >= -1e-6 * own[1:]).all()


def test_pgpo_weight_jumps_from_none_over_one_to_all():  # P6, across the fallback
    # the others are equal; the last token goes from less dependent over equal to more
    dependency = torch.ones(5, 4)
    dependency[:, 3] = torch.tensor([0.99, 1 - 1e-6, 1.0, 1 + 1e-6, 1.01])
    assert_close(pgpo_weights(dependency)[:, 3], torch.tensor([0.0, 1.0, 1.0, 1.0, 4.0]))


@settings(max_examples=6)
@given(batches(), st.sampled_from([0.5, 2.0, 3.0]), st.sampled_from([0.0, 0.7]))
def test_pgpo_ignores_the_scale_and_offset_of_log_scores(batch, scale, offset):  # P8
    stretched = (scale * batch.kls[0].log1p() + offset).expm1()
    # the paper's small constant, 1e-8, breaks the invariance where scores hardly differ
    clear = spreads(batch) > 1e-2
    assert_close(
        pgpo_weights(stretched, batch.mask)[clear],
        pgpo_weights(batch.kls[0], batch.mask)[clear],
        rtol=1e-4,  # the roundings of log1p and expm1, over a range as small as 1e-2
        atol=1e-3,
    )
    # of S itself the scale does matter
    assert not torch.allclose(
        pgpo_weights(torch.tensor([[0.0, 1.0, 4.0]])),
        pgpo_weights(torch.tensor([[0.0, 0.1, 0.4]])),
        rtol=0.01,
    )


@settings(max_examples=6)
@given(batches())
def test_pgpo_without_gate_and_boost_is_plain_grpo(batch):  # P9
    weights = pgpo_weights(batch.kls[0], batch.mask, threshold=0.0, boost=0.0)
    assert_close(weights, batch.mask.float())


@settings(max_examples=6)
@given(batches())
def test_pgpo_never_shrinks_the_second_moment(batch):  # P10
    squares = batch.weights(EXACT).square().sum(1)
    # equality for weights of 1, up to one rounding of float32
    assert (squares >= batch.mask.sum(1) * (1 - 1e-6)).all()


@settings(max_examples=6)
@given(batches(), st.sampled_from([1e-6, 0.02, 0.5, 3.0]))
def test_pgpo_weighs_all_tokens_one_up_to_min_range(batch, min_range):  # P12
    weights = pgpo_weights(batch.kls[0], batch.mask, min_range=min_range)
    spread = spreads(batch)
    assert weights[spread <= min_range].equal(batch.mask.float()[spread <= min_range])
    beyond = weights.masked_fill(~batch.mask, INF)[spread > min_range]
    assert (beyond.amin(1) == 0).all()


def test_pgpo_second_moment_of_the_gradient_grows_by_the_mean_square_weight():  # P13
    # a response's gradient is sum_t dL/dlog p_t * u_t; token scores u_t independent unit vectors
    rows, tokens, width = 20_000, 5, 16
    scores = torch.nn.functional.normalize(torch.randn(rows, tokens, width), dim=2)
    dependency = torch.tensor([0.0, 0.1, 0.5, 2.0, 6.0]).expand(rows, tokens)
    mask = torch.ones(rows, tokens).bool()
    advantages = torch.randn(rows)

    def second_moment(algorithm):
        log_probs = torch.zeros(rows, tokens, requires_grad=True)
        views = {"blind": ViewScores(dependency, dependency)}
        spread = token_advantages(algorithm, advantages, views, mask)
        token_mean(clipped_surrogate(log_probs, torch.zeros(rows, tokens), spread), mask).backward()
        return torch.einsum("bt,bth->bh", log_probs.grad, scores).square().sum()

    ratio = second_moment(EXACT) / second_moment(Algorithm())
    # mean w^2 of the worked response; Monte Carlo of 20,000 responses is good to 1 %
    assert_close(ratio, torch.tensor(2.167291), rtol=0.01, atol=0)
