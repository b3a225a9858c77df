import math

import numpy as np
import pytest
import torch

from sightline import core
from sightline.report import statistics
from sightline.report.statistics import (
    auroc,
    bootstrap,
    mean_interval,
    precision_at,
    ranks,
    sampled_kl,
    spearman,
)


def test_sampled_kl_by_hand():
    # exp(x) - x - 1 at 0, 1, -1: 0, e - 2, 1/e
    found = sampled_kl([0.0, 1.0, -1.0, None])

    assert found == [0.0, pytest.approx(math.e - 2), pytest.approx(1 / math.e), None]
    assert sampled_kl([2.7, 1e90]) == [10.0, 10.0]  # e^2.7 - 3.7 = 11.2, clamped as dependency is


def test_the_sampled_kl_of_training_and_of_the_report_are_one():
    x = [0.0, 1e-4, -1e-4, 0.5, -2.0, 2.2, 25.0, -25.0]
    trained = core.sampled_kl(torch.tensor(x)).tolist()

    assert sampled_kl(x) == pytest.approx(trained, rel=1e-6, abs=1e-11) and trained[1] > 0


def test_ties_share_their_mean_rank():
    assert ranks([10.0, 30.0, 10.0, 20.0]).tolist() == [1.5, 4.0, 1.5, 3.0]


def test_auroc_by_hand():
    # positives 3, 1; negatives 2, 1: of the pairs 3>2, 3>1, 1<2, 1=1 that is 1 + 1 + 0 + 0.5 of 4
    scores, positive = [3.0, 2.0, 1.0, 1.0], [True, False, True, False]

    assert auroc(scores, positive) == 2.5 / 4
    # the positive 3 counts twice: 2 + 2 + 0 + 0.5 of 6
    assert auroc(scores, positive, [2, 1, 1, 1]) == pytest.approx(4.5 / 6)
    assert auroc([1.0], [True]) is None and auroc([], []) is None


def test_spearman_goes_by_rank_alone():
    assert spearman([1.0, 2.0, 3.0], [1.0, 10.0, 1000.0]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]) is None


def test_precision_at_counts_ties_at_the_border_in_part():
    # the highest is positive; of the two at 2, of which one more counts, half are
    assert precision_at([3.0, 2.0, 2.0, 1.0], [True, True, False, False], 1) == 1.0
    assert precision_at([3.0, 2.0, 2.0, 1.0], [True, True, False, False], 2) == 0.75


def test_intervals_hold_the_mean_and_shrink_with_more_responses():
    few, many = (mean_interval([0.0, 1.0] * n, [1.0] * (2 * n)) for n in (5, 50))

    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    # of 100 fair coins: 1.96 * sqrt(0.25 / 100) = 0.098 either way
    assert many == (pytest.approx(0.402, abs=0.02), pytest.approx(0.598, abs=0.02))


def test_intervals_weigh_responses_by_their_tokens():
    tokens = [2.0, 8.0, 1.0, 4.0, 3.0]
    assert mean_interval(tokens, tokens) == (1.0, 1.0)
    # of the four responses that have a token
    assert mean_interval([*tokens[:4], 5.0], [*tokens[:4], 0.0]) == (None, None)


def test_bootstrap_needs_units_and_a_statistic_that_applies():
    assert bootstrap(lambda weights: 1.0, 4) == (None, None)
    assert bootstrap(lambda weights: 1.0, 5) == (1.0, 1.0)
    assert bootstrap(lambda weights: None, 10) == (None, None)
    assert bootstrap(lambda weights: float(weights.sum()), 10) == (10.0, 10.0)


def test_draws_are_the_same_each_time():
    again = statistics.drawn.__wrapped__(7)

    assert np.array_equal(statistics.drawn(7), again) and again.sum(1).tolist() == [7.0] * 1000
