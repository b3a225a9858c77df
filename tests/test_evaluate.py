"""Intervals and ranks against hand-worked numbers; greedy decoding against the model."""

import numpy as np
import pytest
import torch

from sightline.encoding import encode
from sightline.evaluate import auroc, bootstrap_interval, greedy_responses
from sightline.tasks import digits


def test_auroc_by_hand():
    # positives 3, 1; negatives 2, 1, 0. Pairs won: 3 beats all three; 1 beats 0 and ties 1.
    # (3 + 1 + 0.5) / 6
    assert auroc([3.0, 1.0, 2.0, 1.0, 0.0], [True, True, False, False, False]) == pytest.approx(
        4.5 / 6
    )
    assert auroc([1.0, 2.0], [False, True]) == 1
    assert auroc([1.0, 2.0], [True, False]) == 0
    assert auroc([5.0, 5.0, 5.0], [True, False, True]) == 0.5


def test_auroc_needs_both_kinds():
    assert auroc([1.0, 2.0], [True, True]) is None
    assert auroc([], []) is None


def test_the_interval_covers_the_mean_of_new_samples():
    # 95 % nominal; a binomial count over 200 samples has sd 3.1, so 180 is five of them below 190
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval((rng.random(60) < 0.3).astype(float).tolist(), draws=500)
        covered += low <= 0.3 <= high
    assert covered >= 180


def test_the_interval_of_paired_differences_is_narrower_than_of_independent_ones():
    rng = np.random.default_rng(0)
    before = rng.random(500) < 0.5
    after = before | (rng.random(500) < 0.1)
    low, high = bootstrap_interval(np.subtract(after, before, dtype=float).tolist())
    assert 0 < low < (after.mean() - before.mean()) < high
    assert high - low < 0.06


def test_an_interval_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])


def test_greedy_responses_are_the_argmax_of_the_model(tiny):
    rows = digits.rows(3)
    rows[1]["images"] *= 2  # another prompt length: padding on the left
    responses = greedy_responses(tiny.model, tiny.processor, rows, 5, batch_size=2)
    for row, response in zip(rows, responses, strict=True):
        inputs = encode(tiny.processor, [row]).inputs
        ids = []
        for _ in range(5):
            extra = torch.tensor([ids], dtype=torch.long)
            step = {
                **inputs,
                "input_ids": torch.cat([inputs["input_ids"], extra], 1),
                "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], 0 * extra], 1),
                "attention_mask": torch.cat([inputs["attention_mask"], 0 * extra + 1], 1),
            }
            with torch.no_grad():
                ids.append(int(tiny.model(**step).logits[0, -1].argmax()))
        assert response == tiny.processor.decode(ids, skip_special_tokens=True)
