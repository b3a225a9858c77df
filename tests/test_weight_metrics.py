"""The watched numbers, by hand."""

import pytest
import torch

from sightline import ViewScores
from sightline.weight_metrics import weight_metrics

NAN = float("nan")


def test_metrics_by_hand():
    # response 1: w = 3, 1, 0, 0        sum 4, sum of squares 10, effective 16/10
    #             heaviest tenth of 4 tokens = 1 token: 3/4
    # response 2: w = 1, 1 | padding    effective 4/2, heaviest tenth = 1 token: 1/2
    # response 3: empty, does not count
    weights = torch.tensor([[3.0, 1, 0, 0], [1, 1, NAN, 7], [5, 5, 5, 5]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    # k3 of log 2: 2 - 1 - log 2 = 0.306853, once among four tokens; NaN counts as 0
    ratio = torch.zeros(3, 4)
    ratio[0, 1], ratio[1, 0], ratio[1, 2] = torch.tensor(2.0).log(), NAN, NAN
    found = weight_metrics(weights, {"blind": ViewScores(ratio)}, mask)

    assert found["weights/largest"] == 3
    assert found["weights/effective_tokens"] == pytest.approx((1.6 + 2) / 2)
    assert found["weights/top10_share"] == pytest.approx((0.75 + 0.5) / 2)
    assert found["dependency/mean"] == pytest.approx(0.306853 / 4 / 2, rel=1e-5)
    # of the six scores 0.306853 is the largest: the 0.9 quantile lies halfway between 0 and it
    assert found["dependency/p50"] == 0
    assert found["dependency/p90"] == pytest.approx(0.306853 / 2, rel=1e-5)
    assert found["dependency/p99"] == pytest.approx(0.306853 * 0.95, rel=1e-5)
    assert found["dependency/not_finite"] == 1


def test_share_of_heavy_tokens_that_the_image_made_less_likely():  # T26
    # means 1 and 2: above them are 3 and 2 of the first, 4 of the second response
    weights = torch.tensor([[3.0, 2, 0, 0, 0], [0, 4, 7, 7, 7]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    ratio = torch.tensor([[0.5, -0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0, 0, 0]])
    found = weight_metrics(weights, {"blind": ViewScores(ratio)}, mask)
    assert found["dependency/positive_share"] == pytest.approx(2 / 3)
    uniform = weight_metrics(mask.float(), {"blind": ViewScores(ratio)}, mask)
    assert "dependency/positive_share" not in uniform


def test_a_spike_is_one_effective_token():
    # T25
    weights = torch.zeros(1, 50)
    weights[0, 7] = 50
    found = weight_metrics(weights, {}, torch.ones(1, 50).bool())
    assert found["weights/largest"] == 50
    assert found["weights/effective_tokens"] == 1
    assert found["weights/top10_share"] == 1


def test_the_heaviest_tenth_is_counted_exactly():
    # 30 tokens of equal weight: 3 of them, a tenth; in float32 0.1 * 30 rounds up to 4
    found = weight_metrics(torch.ones(1, 30), {}, torch.ones(1, 30).bool())
    assert found["weights/top10_share"] == pytest.approx(0.1)


def test_no_response_no_metrics():
    assert weight_metrics(torch.ones(2, 3), {}, torch.zeros(2, 3).bool()) == {}


def test_a_nan_in_the_exact_kl_is_counted_too():
    kl = torch.tensor([[NAN, 1.0]])
    scores = {"blind": ViewScores(torch.zeros(1, 2), kl)}
    assert (
        weight_metrics(torch.ones(1, 2), scores, torch.ones(1, 2).bool())["dependency/not_finite"]
        == 1
    )
