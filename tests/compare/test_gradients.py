"""What a rule does to the gradient: its statistics by hand, and measured on real batches."""

import numpy as np
import pytest
import torch
from scipy.stats import t

from sightline import tasks
from sightline.compare import gradients
from sightline.compare.gradients import measure_gradients
from sightline.compare.rules import RULES, Seen
from sightline.compare.signal_to_noise import gradient_statistics
from sightline.tiny_vlm import build_model, build_processor

TASK = "digits-sum-12-free"


@pytest.fixture(scope="module")
def processor():
    return build_processor(tasks.load(TASK).corpus())


def test_gradient_statistics_by_hand():
    # gradients (1, 1), (1, -1), (1, 1), (1, -1): mean (1, 0)
    own = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    found = gradient_statistics(own, own)
    # variance 0 + 4 / 3; of the 12 pairs of different ones 4 have product 2 and 8 product 0: 2 / 3
    # for the squared mean
    assert found.deviation**2 == pytest.approx(4 / 3)
    assert found.norm**2 == pytest.approx(2 / 3)
    assert found.signal_to_noise == pytest.approx(0.5)
    assert found.batch_norm == pytest.approx(2**0.5)
    assert found.cosine == pytest.approx(1.0)
    # one batch's unit gradient on the others: (2 / 3) / sqrt 2, over sqrt(2 / 3)
    assert found.alignment.value == pytest.approx(3**-0.5)
    other = torch.tensor([[3.0, 0.0]] * 4)
    beside = gradient_statistics(own, other)
    # products are all 3, and so is the norm of the other mean: 3 / sqrt(2 / 3 * 9)
    assert beside.cosine == pytest.approx((3 / 2) ** 0.5)
    assert beside.alignment == pytest.approx((2**-0.5,) * 3)  # 45 degrees each
    assert gradient_statistics(other, other).signal_to_noise is None
    assert beside.relative_signal_to_noise is None
    # the reference's is 1, so the ratio is the alignment itself; without any one batch too
    assert beside.relative_alignment == pytest.approx((2**-0.5,) * 3)
    # what climbs against it says so
    assert gradient_statistics(-own, other).relative_alignment.high == pytest.approx(-(2**-0.5))
    # the other way round, batches of no noise climb the mean of (1, 0) as it is estimated, 2 / 3
    assert gradient_statistics(other, own).alignment.value == pytest.approx((3 / 2) ** 0.5)
    # equal batches have no variance, whatever rounding makes of it
    assert gradient_statistics(*[torch.tensor([[0.1, 0.2, 0.7]] * 24)] * 2).deviation == 0


def test_where_a_mean_is_not_told_from_none_nothing_is_said_of_it():
    # products of different ones -1, -1, -1, -1, 1, 1: mean -1 / 3
    own = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    found = gradient_statistics(torch.tensor([[1.0], [2.0], [1.0], [2.0]]), own)
    assert found.cosine is None and found.alignment is None
    assert found.relative_alignment is None and found.relative_signal_to_noise is None
    assert gradient_statistics(own, own).norm == 0.0
    # a batch without any gradient climbs nothing: (1 + 1 + 0) / 3
    some = gradient_statistics(torch.tensor([[1.0], [4.0], [0.0]]), torch.ones(3, 1))
    assert some.alignment.value == pytest.approx(2 / 3)


def test_the_interval_of_a_relative_signal_to_noise_is_that_of_the_jackknife():
    draws = torch.Generator().manual_seed(0)
    own = 1 + torch.randn(6, 3, generator=draws)
    other = 2 + torch.randn(6, 3, generator=draws)

    def signal(rows):
        mean, count = rows.mean(0), len(rows)
        variance = (rows - mean).square().sum() / (count - 1)
        return ((mean.square().sum() - variance / count) / variance).item()

    without = [
        signal(own[kept]) / signal(other[kept])
        for kept in ([i for i in range(6) if i != out] for out in range(6))
    ]
    reach = t.ppf(0.975, 5) * np.std(without) * 5**0.5  # (n - 1) / n times the sum of squares
    whole = signal(own) / signal(other)
    found = gradient_statistics(own, other).relative_signal_to_noise
    assert found == pytest.approx((whole, whole - reach, whole + reach), rel=1e-4)


def test_means_over_many_draws_are_those_of_the_distribution():
    # mean (1, 0), variance 1 + 1 of each of 3 batches: signal 1 / 2; estimates of it scatter widely
    # in a product of two estimates, but neither of its parts is off
    draws = torch.Generator().manual_seed(1)
    found = [
        gradient_statistics(*(2 * [torch.tensor([1.0, 0.0]) + torch.randn(3, 2, generator=draws)]))
        for _ in range(1000)
    ]
    assert np.mean([f.deviation**2 for f in found]) == pytest.approx(2, abs=0.15)
    squares = [f.signal_to_noise * f.deviation**2 for f in found]
    assert np.mean(squares) == pytest.approx(1, abs=0.2)  # norm is cut at 0, this is not


def test_the_gradient_of_uniform_credit_agrees_with_itself(processor, monkeypatch):
    task = tasks.load(TASK)
    # random weights are never right; one response of each pair is said to be
    monkeypatch.setattr(gradients, "exact_answer", lambda texts, golds: [1.0, 0.0] * 2)
    rules = {
        name: RULES[name]
        for name in ("uniform", "oracle", "pgpo", "pgpo-shuffled", "vppo", "sightline")
    }
    rules["twice"] = RULES["uniform"]
    found = measure_gradients(
        build_model(processor, 0), processor, task, rules, "uniform",
        batches=4, prompts=2, group_size=2, max_new_tokens=8, seed=0,
    )  # fmt: skip
    assert found["twice"] == found["uniform"]
    assert {statistics.batches for statistics in found.values()} == {4}
    assert found["pgpo"] != found["uniform"]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="no group of 4 batches differs in reward"):
        measure_gradients(
            build_model(processor, 0), processor, task, rules, "uniform",
            batches=4, prompts=1, group_size=2, max_new_tokens=2, seed=0,
        )  # fmt: skip
    with pytest.raises(ValueError, match="reads another view as 'blind'"):
        measure_gradients(
            None, None, task, rules | {"gray": Seen(RULES["pgpo"])},
            "uniform", batches=4, prompts=1, group_size=2, max_new_tokens=2, seed=0,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"reference must be one of uniform, .*, got 'unifrom'"):
        measure_gradients(
            None, None, task, rules, "unifrom",
            batches=4, prompts=1, group_size=2, max_new_tokens=2, seed=0,
        )  # fmt: skip
    with pytest.raises(ValueError, match="batches must be at least 4, got 3"):
        measure_gradients(
            None, None, task, rules, "uniform",
            batches=3, prompts=1, group_size=2, max_new_tokens=8, seed=0,
        )  # fmt: skip


def test_a_gradient_is_that_of_the_loss_written_out(processor, monkeypatch):
    task, model = tasks.load(TASK), build_model(processor, 0)
    monkeypatch.setattr(gradients, "exact_answer", lambda texts, golds: [1.0, 0.0, 0.0, 1.0])
    kept, rolled = [], []
    roll_out = gradients._roll_out
    monkeypatch.setattr(
        gradients, "_roll_out", lambda *args: rolled.append(roll_out(*args)) or rolled[-1]
    )
    monkeypatch.setattr(
        gradients,
        "gradient_statistics",
        lambda own, other: kept.append(own) or gradient_statistics(own, other),
    )
    rules = {name: RULES[name] for name in ("top-40", "uniform")}
    measure_gradients(
        model, processor, task, rules, "uniform",
        batches=4, prompts=2, group_size=2, max_new_tokens=8, seed=0,
    )  # fmt: skip
    responses, advantages = rolled[1]
    assert sorted(advantages.tolist()) == pytest.approx([-(2**-0.5)] * 2 + [2**-0.5] * 2, abs=1e-3)
    # all were cut off: of what was sampled, no token is the end
    assert responses.mask.all() and responses.mask.shape == (4, 8)
    assert not (responses.response_ids == processor.tokenizer.eos_token_id).any()
    logits = model(**responses.inputs).logits[:, -9:-1].log_softmax(-1)
    total = 0.0
    for row in range(4):
        for place in range(8):
            token = responses.response_ids[row, place]
            total = total - advantages[row] * logits[row, place, token] / 32
    expected = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    flat = gradients._flat(expected, list(model.parameters()))
    torch.testing.assert_close(kept[1][1], flat, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(kept[0][1], flat, rtol=1e-2)
