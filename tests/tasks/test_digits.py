"""The digits task: exact answers, honest labels, and splits that share no scan."""

import numpy as np
import pytest

from sightline.tasks import digits, load
from sightline.token_labels import label_tokens, token_texts

RESPONSE = (
    "<think> hm . the right digit is clearly three , and on the left the shape reads as nine . "
    "adding them gives twelve . not too hard .</think> \\boxed{12}"
)


def test_every_demonstration_is_right_and_labelled():
    rng = np.random.default_rng(0)
    for row in digits.rows(300, seed=5):
        text = digits.demonstration(row, rng)
        marked = [(text[a:b], label) for a, b, label in digits.spans(text)]
        assert [label for _, label in marked] == ["visual", "visual", "answer", "answer"]
        assert sorted(word for word, label in marked if label == "visual") == sorted(
            digits.in_view(row)
        )
        assert digits.NUMBERS[int(row["answer"])] == marked[2][0]
        assert marked[3][0] == row["answer"]
        assert digits.readings(text) == tuple(row["digits"])


def test_a_careless_annotator_takes_some_digits_for_others():
    rng = np.random.default_rng(0)
    rows = digits.rows(300, seed=5)
    told = [digits.misread(row, rng, rate=0.6) for row in rows]
    shown, said = ([digit for row in side for digit in row["digits"]] for side in (rows, told))
    pairs = list(zip(shown, said, strict=True))
    wrong = {pair for pair in pairs if pair[0] != pair[1]}
    assert wrong == {(1, 7), (3, 8), (4, 9)}
    at_risk = [a != b for a, b in pairs if a in (1, 3, 4)]
    assert np.mean(at_risk) == pytest.approx(0.6, abs=0.1)  # 180 draws: 3 standard deviations
    # the sum follows from what was said, and the row itself keeps the truth
    assert all(row["answer"] == str(sum(row["digits"])) for row in (*rows, *told))
    assert [digits.misread(row, rng, rate=0.0) for row in rows] == rows


def test_the_answer_is_the_sum():
    for row in digits.rows(100):
        assert row["answer"] == str(sum(row["digits"]))
        assert row["prompt"][0]["content"] == digits.QUESTION


def test_readings_follow_the_side_and_not_the_order():
    assert digits.readings(RESPONSE) == (9, 3)
    assert [RESPONSE[a:b] for a, b, _ in digits.spans(RESPONSE)] == [
        "three",
        "nine",
        "twelve",
        "12",
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("on the left", "on the right"),  # one side twice
        (" three ", " a digit "),  # a reading missing
        ("gives twelve", "gives something"),  # no conclusion
        ("</think>", ""),
        ("\\boxed{12}", "12"),
        ("hm .", "three ."),  # a number where prose should be
    ],
)
def test_a_response_outside_the_grammar_has_no_labels(change):
    broken = RESPONSE.replace(*change)
    assert broken != RESPONSE
    assert digits.spans(broken) is None
    assert digits.readings(broken) is None


def test_labels_of_tokens_follow_the_spans(tiny):
    tokenizer = tiny.processor.tokenizer
    texts = token_texts(tokenizer, tokenizer(RESPONSE)["input_ids"])
    labels = label_tokens(texts, digits.spans(RESPONSE))
    assert "".join(texts) == RESPONSE
    assert [t for t, label in zip(texts, labels, strict=True) if label == "visual"] == [
        " three",
        " nine",
    ]
    assert [t for t, label in zip(texts, labels, strict=True) if label == "answer"] == [
        " twelve",
        "1",
        "2",
    ]


def test_a_row_does_not_depend_on_how_many_are_drawn():
    few, many = digits.rows(3, seed=9), digits.rows(7, seed=9)
    for a, b in zip(few, many, strict=False):
        assert a["images"][0].tobytes() == b["images"][0].tobytes()
        assert {k: v for k, v in a.items() if k != "images"} == {
            k: v for k, v in b.items() if k != "images"
        }


def test_seeds_and_splits_draw_differently():
    pictures = {
        digits.rows(1, seed=seed, split=split)[0]["images"][0].tobytes()
        for seed in range(3)
        for split in digits.SCANS
    }
    assert len(pictures) == 9


def test_splits_share_no_scan_and_hold_them_all():
    parts = [set(range(1797)[part]) for part in digits.SCANS.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797


def test_scenes_vary_in_place_size_and_ground():
    pictures = np.stack([np.asarray(r["images"][0], dtype=float) for r in digits.rows(50)])
    assert pictures.shape == (50, digits.HEIGHT, digits.WIDTH, 3)
    assert pictures.std(0).min() > 5  # no pixel is the same everywhere


def test_reading_accuracy_counts_both_digits():
    rows = [{"digits": [9, 3]}, {"digits": [9, 4]}, {"digits": [9, 3]}]
    assert digits.reading_accuracy(rows, [RESPONSE, RESPONSE, "nonsense"]) == pytest.approx(1 / 3)


def test_an_unknown_split_or_task_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"\['heldout', 'rl', 'warm'\], got 'test'"):
        digits.rows(1, split="test")
    with pytest.raises(ValueError, match="unknown task 'letters'; known: digits"):
        load("letters")


def test_an_instruction_follows_the_question():
    row = digits.rows(1, instruction="box it")[0]
    assert row["prompt"][0]["content"] == f"{digits.QUESTION}\n\nbox it"
