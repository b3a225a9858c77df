import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from sightline import compare_views, exact_kl, jensen_shannon, sampled_kl, token_log_probs

# One state, four words. p given the image, q given the view, x = log q - log p:
#   p                  0.70      0.20      0.06      0.04
#   q                  0.30      0.30      0.25      0.15
#   k3 = q/p - 1 - x   0.275869  0.094535  1.739550  1.428244
#   mean under p       0.373518 = KL(p || q);    KL(q || p) = 0.422493
#   m = (p + q) / 2    0.50      0.25      0.155     0.095
#   -p log p           0.249672  0.321888  0.168805  0.128755      entropy 0.869120
#   -q log q           0.361192  0.361192  0.346574  0.284568      entropy 1.353525
#   -m log m           0.346574  0.346574  0.288972  0.223617      entropy 1.205736
#   sqrt(p q)          0.458258  0.244949  0.122474  0.077460      1 - sum = 0.096859, He^2
#   JS = 1.205736 - (0.869120 + 1.353525) / 2 = 0.094414
P = torch.tensor([0.70, 0.20, 0.06, 0.04])
Q = torch.tensor([0.30, 0.30, 0.25, 0.15])
K3 = torch.tensor([0.275869, 0.094535, 1.739550, 1.428244])


def reference(hidden, view_hidden, head_weight, temperature=1.0):
    """Log-probs of both views and KL(image || view) from full tables, in float64."""
    log_p = (hidden.double() @ head_weight.double().T / temperature).log_softmax(1)
    log_q = (view_hidden.double() @ head_weight.double().T / temperature).log_softmax(1)
    return log_p, log_q, (log_p.exp() * (log_p - log_q)).sum(1)


def reference_extras(log_p, log_q):
    """Both entropies, KL(view || image), squared Hellinger distance and Jensen-Shannon."""
    p, q = log_p.exp(), log_q.exp()
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (
        -(p * log_p).sum(1),
        -(q * log_q).sum(1),
        (q * (log_q - log_p)).sum(1),
        1 - (p * q).sqrt().sum(1),
        (p * (log_p - log_m) + q * (log_q - log_m)).sum(1) / 2,
    )


def measure_extras(*states, **tiles):
    """The same from the code under test; the targets do not matter."""
    targets = torch.zeros(len(states[0]), dtype=torch.long)
    seen = compare_views(*states, targets, extras=True, **tiles)
    return *seen[3:], jensen_shannon(*states, **tiles)


def random_states(rows=7, width=16, vocabulary=50, gain=3.0):
    head_weight = torch.randn(vocabulary, width) / width**0.5
    hidden = gain * torch.randn(rows, width)
    view_hidden = hidden + 0.3 * gain * torch.randn(rows, width)
    return hidden, view_hidden, head_weight, torch.randint(vocabulary, (rows,))


# --- sampled_kl


def test_sampled_kl_by_hand():
    assert_close(sampled_kl((Q / P).log()), K3)


def test_mean_of_sampled_kl_is_the_kl_of_image_from_view():  # T21
    log_ratio = (Q / P).log()
    assert_close((P * sampled_kl(log_ratio)).sum(), torch.tensor(0.373518))
    # the other way round is the other divergence
    assert_close((Q * sampled_kl(-log_ratio)).sum(), torch.tensor(0.422493))


def test_mean_of_sampled_kl_is_wrong_under_truncated_sampling():  # T35
    # drawn from the two likelier words only, 7 : 2
    #   (0.70 * 0.275869 + 0.20 * 0.094535) / 0.90 = 0.235573, not 0.373518
    truncated = P[:2] / P[:2].sum()
    assert_close((truncated * sampled_kl((Q / P).log())[:2]).sum(), torch.tensor(0.235573))


def test_sampled_kl_is_lopsided_and_clamped():  # T26
    # x           2          -2         2.6108   2.6109    -10.9999   -11
    # e^x - 1 - x 4.389056   1.135335   9.9994   10.0005   9.9999     10.00002
    log_ratio = torch.tensor([2.0, -2.0, 2.6108, 2.6110, -10.9999, -11.0])
    scores = sampled_kl(log_ratio)
    assert_close(scores[:2], torch.tensor([4.389056, 1.135335]))
    assert (scores == 10).tolist() == [False, False, False, True, False, True]
    assert_close(sampled_kl(log_ratio, clamp=1.5)[:2], torch.tensor([1.5, 1.135335]))
    assert_close(sampled_kl(torch.tensor(3.0), clamp=None), torch.tensor(16.085537))


def test_sampled_kl_survives_small_and_large_ratios():  # T27
    # 1e-4: 5.0002e-9, where exp(x) - 1 - x is 0 in float32
    small = sampled_kl(torch.tensor([1e-4, -1e-4]))
    assert_close(small, torch.tensor([5.0002e-9, 4.9998e-9]), rtol=1e-3, atol=0)  # T27: 0.1 %
    assert (torch.tensor(1e-4).exp() - 1 - 1e-4).item() != small[0].item()
    assert sampled_kl(torch.tensor(0.0)).item() == 0
    # x is clipped to +-20: e^20 - 21 and e^-20 + 19
    far = sampled_kl(torch.tensor([80.0, -80.0, float("inf"), -float("inf")]), clamp=None)
    assert_close(far, torch.tensor([485165174.4, 19.0, 485165174.4, 19.0]))


def test_sampled_kl_is_never_negative_and_zero_only_at_zero():
    log_ratio = torch.cat([torch.linspace(-15, 15, 10_001), torch.logspace(-3, 1, 1_000)])
    scores = sampled_kl(log_ratio)
    assert (scores >= 0).all()
    assert (scores == 0).equal(log_ratio == 0)


def test_sampled_kl_is_float32_and_keeps_nan_to_be_counted():
    half = torch.tensor([2.0, float("nan")], dtype=torch.bfloat16)
    scores = sampled_kl(half)
    assert scores.dtype == torch.float32
    assert_close(scores, torch.tensor([4.389056, float("nan")]), equal_nan=True)


# --- exact_kl, token_log_probs, compare_views


def test_exact_kl_by_hand():
    # hidden states log p and log q under an identity head are those distributions
    rows = torch.stack([P.log(), Q.log(), P.log()])
    view_rows = torch.stack([Q.log(), P.log(), P.log()])
    kl = exact_kl(rows, view_rows, torch.eye(4))
    assert_close(kl, torch.tensor([0.373518, 0.422493, 0.0]))


def test_extras_by_hand():
    rows, view_rows = torch.stack([P.log(), Q.log()]), torch.stack([Q.log(), P.log()])
    seen = compare_views(rows, view_rows, torch.eye(4), torch.tensor([0, 3]), extras=True)
    assert_close(seen.log_probs.exp(), torch.tensor([0.70, 0.15]))
    assert_close(seen.view_log_probs.exp(), torch.tensor([0.30, 0.04]))
    assert_close(seen.kl, torch.tensor([0.373518, 0.422493]))
    assert_close(seen.entropy, torch.tensor([0.869120, 1.353525]))
    assert_close(seen.view_entropy, torch.tensor([1.353525, 0.869120]))
    assert_close(seen.reverse_kl, torch.tensor([0.422493, 0.373518]))
    assert_close(seen.hellinger, torch.tensor([0.096859, 0.096859]))
    js = jensen_shannon(rows, view_rows, torch.eye(4))
    assert_close(js, torch.tensor([0.094414, 0.094414]))


def test_extras_are_only_computed_when_asked_for():
    hidden, view_hidden, head_weight, targets = random_states()
    plain = compare_views(hidden, view_hidden, head_weight, targets)
    full = compare_views(hidden, view_hidden, head_weight, targets, extras=True)
    assert all(map(torch.equal, plain[:3], full[:3]))
    assert plain[3:] == (None, None, None, None)


def test_temperature_divides_the_logits():
    # sqrt(p) / sum, sqrt(q) / sum: (0.455, 0.243, 0.133, 0.109) and so on
    soft_p, soft_q = P.sqrt() / P.sqrt().sum(), Q.sqrt() / Q.sqrt().sum()
    words = torch.arange(4)
    rows, view_rows = P.log().expand(4, 4), Q.log().expand(4, 4)
    seen = compare_views(rows, view_rows, torch.eye(4), words, temperature=2.0)
    assert_close(seen.log_probs, soft_p.log())
    assert_close(seen.view_log_probs, soft_q.log())
    assert_close(seen.kl, (soft_p * (soft_p / soft_q).log()).sum().expand(4))
    assert_close(token_log_probs(rows, torch.eye(4), words, temperature=2.0), soft_p.log())
    assert_close(exact_kl(rows, view_rows, torch.eye(4), temperature=2.0), seen.kl)
    softened = reference_extras(soft_p.log().expand(1, 4), soft_q.log().expand(1, 4))
    measured = measure_extras(rows[:1], view_rows[:1], torch.eye(4), temperature=2.0)
    assert_close(measured, softened)


@pytest.mark.parametrize("row_chunk", [1, 3, 7, 512])
@pytest.mark.parametrize("vocab_chunk", [1, 7, 49, 50, 4096])
def test_any_tiling_equals_the_full_table(row_chunk, vocab_chunk):  # T42
    hidden, view_hidden, head_weight, targets = random_states()
    log_p, log_q, kl = reference(hidden, view_hidden, head_weight)
    tiles = {"row_chunk": row_chunk, "vocab_chunk": vocab_chunk}
    every_row = torch.arange(len(targets))

    seen = compare_views(hidden, view_hidden, head_weight, targets, **tiles)

    assert_close(seen.log_probs, log_p[every_row, targets].float())
    assert_close(seen.view_log_probs, log_q[every_row, targets].float())
    assert_close(seen.kl, kl.float())
    assert exact_kl(hidden, view_hidden, head_weight, **tiles).equal(seen.kl)
    # one path for every log-prob (T22): bit for bit
    assert token_log_probs(hidden, head_weight, targets, **tiles).equal(seen.log_probs)
    assert token_log_probs(view_hidden, head_weight, targets, **tiles).equal(seen.view_log_probs)


@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 70), st.integers(1, 70))
def test_no_tiling_changes_the_extras(seed, row_chunk, vocab_chunk, vocabulary):  # T42
    torch.manual_seed(seed)
    states = random_states(vocabulary=vocabulary)[:3]
    log_p, log_q, _ = reference(*states)
    expected = [values.float() for values in reference_extras(log_p, log_q)]
    measured = measure_extras(*states, row_chunk=row_chunk, vocab_chunk=vocab_chunk)
    for found, wanted in zip(measured, expected, strict=True):
        assert_close(found, wanted, rtol=1e-5, atol=2e-6)


@given(st.integers(0, 999), st.floats(-4, 2))
def test_certified_bounds_of_jensen_shannon(seed, log10_distance):
    # ln 2 * He^2 <= JS <= min(He^2, (KL + reverse KL) / 4, ln 2)
    torch.manual_seed(seed)
    hidden, _, head_weight, targets = random_states()
    view_hidden = hidden + 10**log10_distance * torch.randn_like(hidden)
    seen = compare_views(hidden, view_hidden, head_weight, targets, extras=True, vocab_chunk=7)
    js = jensen_shannon(hidden, view_hidden, head_weight, vocab_chunk=7)
    rounding = 1e-6
    assert (js >= 0).all() and (js <= math.log(2)).all()
    assert (js >= math.log(2) * seen.hellinger - rounding).all()
    assert (js <= seen.hellinger + rounding).all()
    assert (js <= (seen.kl + seen.reverse_kl) / 4 + rounding).all()
    assert (seen.hellinger <= 1).all()
    swapped = compare_views(view_hidden, hidden, head_weight, targets, extras=True, vocab_chunk=7)
    assert_close(swapped.kl, seen.reverse_kl, rtol=1e-5, atol=rounding)
    assert_close(jensen_shannon(view_hidden, hidden, head_weight, vocab_chunk=7), js)


def test_jensen_shannon_is_ln_2_at_most():
    # no word in common, so that it is ln 2, and rounding goes above it in every fourth row
    logits = torch.randn(200, 300)
    first_half = torch.arange(300) < 150
    rows, view_rows = logits - 1e3 * ~first_half, logits.flip(1) - 1e3 * first_half
    js = jensen_shannon(rows, view_rows, torch.eye(300), vocab_chunk=64)
    assert_close(js, torch.full((200,), math.log(2)))
    assert (js.double() <= math.log(2) + 2e-8).all()  # ln 2 in float32


def test_small_divergences_are_not_lost_in_rounding():
    # all but equal views: JS = sum p d^2 / 8 of about 1e-9, where a difference of entropies in
    # float32 leaves 1e-7
    hidden, _, head_weight, _ = random_states(rows=40, vocabulary=300)
    view_hidden = hidden + 1e-4 * torch.randn_like(hidden)
    log_p, log_q, _ = reference(hidden, view_hidden, head_weight)
    expected = (log_p.exp() * (log_q - log_p).square()).sum(1) / 8
    js = jensen_shannon(hidden, view_hidden, head_weight)
    assert_close(js, expected.float(), rtol=0.05, atol=0)


def hostile(name):
    base = torch.randn(4, 60) * 5
    up, down = base.sort(1).values, base.sort(1, descending=True).values
    tail = torch.full((4, 20), -1e9)
    return {
        "far apart": (base + 1e4, base.flip(0) - 1e4),
        # a maximum that started at 0 would sum to 0 here
        "near -1e6": (base - 1e6, base.flip(1) - 1e6),
        "one word against all": (80 * torch.eye(4, 60), torch.zeros(4, 60)),
        "maximum moves in every tile": (up, down),
        "a tile of impossible words": (torch.cat([base, tail], 1), torch.cat([up, tail], 1)),
        "impossible words first": (torch.cat([tail, base], 1), torch.cat([tail, up], 1)),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "far apart",
        "near -1e6",
        "one word against all",
        "maximum moves in every tile",
        "a tile of impossible words",
        "impossible words first",
    ],
)
def test_hostile_logits(name):
    logits, view_logits = hostile(name)
    head_weight = torch.eye(logits.shape[1])
    targets = logits.argmax(1)
    log_p, log_q, kl = reference(logits, view_logits, head_weight)
    seen = compare_views(logits, view_logits, head_weight, targets, vocab_chunk=10)
    # float32 resolves a logit to 1e-7 of its size, and log-probs are differences of logits
    resolution = max(1e-5, 1e-7 * max(logits[logits > -1e8].abs().max().item(), 1e2))
    every_row = torch.arange(4)
    assert_close(seen.kl, kl.float())
    assert_close(seen.log_probs, log_p[every_row, targets].float(), rtol=1e-6, atol=resolution)
    assert_close(seen.view_log_probs, log_q[every_row, targets].float(), rtol=1e-6, atol=resolution)
    for chunk in (10, None):
        measured = measure_extras(logits, view_logits, head_weight, vocab_chunk=chunk)
        for found, wanted in zip(measured, reference_extras(log_p, log_q), strict=True):
            assert_close(found, wanted.float(), rtol=1e-5, atol=2e-6)


def test_extremes_have_known_values():
    # a certain word against even odds on 64; then two certain words that differ
    certain = 1e3 * torch.eye(64)
    rows, view_rows = certain[:2], torch.stack([torch.zeros(64), certain[2]])
    targets = torch.tensor([0, 1])
    seen = compare_views(rows, view_rows, torch.eye(64), targets, extras=True, vocab_chunk=5)
    js = jensen_shannon(rows, view_rows, torch.eye(64), vocab_chunk=5)
    assert_close(seen.kl, torch.tensor([math.log(64), 1000.0]))
    assert_close(seen.entropy, torch.zeros(2))
    assert_close(seen.view_entropy, torch.tensor([math.log(64), 0.0]))
    # q knows p's impossible words: log(1/64) + 1000 * 63/64
    assert_close(seen.reverse_kl, torch.tensor([984.375 - math.log(64), 1000.0]))
    assert_close(seen.hellinger, torch.tensor([1 - 1 / 8, 1.0]))
    # (log(128/65) + (log(2/65) + 63 log 2) / 64) / 2, and the bound
    assert_close(js, torch.tensor([0.6527827, math.log(2)]))
    assert (js <= math.log(2)).all()


def test_equal_views_differ_by_exactly_nothing():  # T22
    hidden, _, head_weight, targets = random_states(rows=33, vocabulary=500)
    tiles = {"row_chunk": 10, "vocab_chunk": 64}
    for size in (hidden, hidden.bfloat16()):
        states = size, size.clone(), head_weight.to(size.dtype)
        seen = compare_views(*states, targets, extras=True, **tiles)
        assert seen.log_probs.equal(seen.view_log_probs)
        assert seen.entropy.equal(seen.view_entropy)
        js = jensen_shannon(*states, **tiles)
        for divergence in (seen.kl, seen.reverse_kl, seen.hellinger, js):
            assert (divergence == 0).all()


def test_nothing_is_negative():
    # views so close that rounding decides the sign of the sum
    hidden, _, head_weight, _ = random_states(rows=200, vocabulary=300)
    view_hidden = hidden + 1e-6 * torch.randn_like(hidden)
    assert (exact_kl(hidden, view_hidden, head_weight, vocab_chunk=64) >= 0).all()
    for values in measure_extras(hidden, view_hidden, head_weight, vocab_chunk=64):
        assert (values >= 0).all()
    # and words so certain that it decides the sign of an entropy
    certain = hidden * 20
    for values in measure_extras(certain, hidden, head_weight, vocab_chunk=64):
        assert (values >= 0).all()


def test_bf16_states_are_scored_in_float32():  # T24
    hidden, view_hidden, head_weight, targets = random_states(64, 64, 2000, gain=7.0)
    view_hidden = hidden + 0.5 * (view_hidden - hidden)
    states = hidden.bfloat16(), view_hidden.bfloat16(), head_weight.bfloat16()
    log_p, log_q, kl = reference(*states)
    assert 30 < (states[0].double() @ states[2].double().T).abs().max() < 36
    seen = compare_views(*states, targets, vocab_chunk=256)
    every_row = torch.arange(64)
    assert seen.kl.dtype == seen.log_probs.dtype == seen.view_log_probs.dtype == torch.float32
    # 2e-5 is what float32 sums leave at logits of this size
    assert_close(seen.kl, kl.float(), rtol=0, atol=2e-5)
    assert_close(seen.log_probs, log_p[every_row, targets].float(), rtol=0, atol=2e-5)
    for found, wanted in zip(measure_extras(*states), reference_extras(log_p, log_q), strict=True):
        assert found.dtype == torch.float32
        assert_close(found, wanted.float(), rtol=0, atol=2e-5)
    # the control: logits rounded to bf16 are off by a thousand times as much
    rounded = (states[0] @ states[2].T).double().log_softmax(1)
    assert (rounded - log_p).abs().max() > 1e-2


def test_autocast_does_not_round_the_logits():
    hidden, view_hidden, head_weight, targets = random_states()
    expected = compare_views(hidden, view_hidden, head_weight, targets, extras=True)
    js = jensen_shannon(hidden, view_hidden, head_weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = compare_views(hidden, view_hidden, head_weight, targets, extras=True)
        assert jensen_shannon(hidden, view_hidden, head_weight).equal(js)
    assert all(map(torch.equal, seen, expected))


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            # views of the inputs cost nothing
            if isinstance(tensor, torch.Tensor) and not tensor._is_view():
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tiles", [{"row_chunk": 8, "vocab_chunk": 20}, {}])
def test_nothing_larger_than_a_tile_is_allocated(dtype, tiles):  # T42
    vocabulary = 300 if tiles else 5000
    *states, targets = random_states(rows=40, width=4, vocabulary=vocabulary)
    states = [state.to(dtype) for state in states]
    for call in (
        lambda: compare_views(*states, targets, **tiles),
        lambda: compare_views(*states, targets, extras=True, **tiles),
        lambda: exact_kl(*states, **tiles),
        lambda: jensen_shannon(*states, **tiles),
        lambda: token_log_probs(states[0], states[2], targets, **tiles),
    ):
        with LargestTensor() as largest:
            call()
        assert largest.elements == (8 * 20 if tiles else 40 * 1024)


def test_scores_are_constants():
    hidden, view_hidden, head_weight, targets = random_states()
    for state in (hidden, view_hidden, head_weight):
        state.requires_grad_()
    kl = exact_kl(hidden, view_hidden, head_weight)
    js = jensen_shannon(hidden, view_hidden, head_weight)
    log_probs = token_log_probs(hidden, head_weight, targets)
    seen = compare_views(hidden, view_hidden, head_weight, targets, extras=True)
    assert not any(scores.requires_grad for scores in (kl, js, log_probs, *seen))


def test_inputs_are_left_as_they_were():
    # logits are overwritten, and a head of one column in float32 is near to being them
    states = random_states(width=1, vocabulary=7)
    before = [state.clone() for state in states]
    compare_views(*states, extras=True)
    jensen_shannon(*states[:3])
    assert all(map(torch.equal, states, before))


def test_no_rows_give_no_scores():
    hidden, _, head_weight, targets = random_states()
    seen = compare_views(hidden[:0], hidden[:0], head_weight, targets[:0], extras=True)
    assert [scores.shape for scores in seen] == [(0,)] * 7
    assert jensen_shannon(hidden[:0], hidden[:0], head_weight).shape == (0,)
    assert token_log_probs(hidden[:0], head_weight, targets[:0]).shape == (0,)


def test_rows_that_cannot_be_scored_raise_in_production(annotations_off):
    hidden, view_hidden, head_weight, targets = random_states()
    with pytest.raises(ValueError, match=r"shape of hidden, \(7, 16\), got \(1, 16\)"):
        exact_kl(hidden, view_hidden[:1], head_weight)
    with pytest.raises(ValueError, match=r"shape of hidden, \(7, 16\), got \(1, 16\)"):
        jensen_shannon(hidden, view_hidden[:1], head_weight)
    # one target per row, however the rows are cut
    with pytest.raises(ValueError):
        token_log_probs(hidden, head_weight, targets[:1], row_chunk=1)
    for strange in (-100, 50):
        with pytest.raises(ValueError, match=rf"token ids in \[0, 50\), got {strange}"):
            token_log_probs(hidden, head_weight, targets.clone().fill_(strange))
        with pytest.raises(ValueError, match=rf"token ids in \[0, 50\), got {strange}"):
            compare_views(hidden, view_hidden, head_weight, targets.clone().fill_(strange))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
            exact_kl(hidden, view_hidden, head_weight, temperature=temperature)
        with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
            jensen_shannon(hidden, view_hidden, head_weight, temperature=temperature)
        with pytest.raises(ValueError, match=f"temperature must be above 0, got {temperature}"):
            token_log_probs(hidden, head_weight, targets, temperature=temperature)
