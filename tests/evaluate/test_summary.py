"""From samples to numbers, by hand; what could not be judged is neither right nor wrong."""

import json

import pytest

from sightline.evaluate.comparison import compare, report
from sightline.evaluate.summary import paired_difference, questions, same_votes, summarise, table

REWARD = {"matched": 1.0, "different": 0.0, "no_answer": 0.0, "timed_out": None}


def sample(name, number, verdict, answer, condition="true", gold="1", ended=True):
    return {
        "id": name,
        "condition": condition,
        "sample": number,
        "gold": gold,
        "answer": answer,
        "length": 10 + number,
        "ended": ended,
        "reward": REWARD[verdict],
        "reward_reason": verdict,
    }


SAMPLES = [
    # a: 1 of 4 right; the votes are 1, 2, 2, 3: the majority is wrong
    sample("a", 0, "matched", "1"),
    sample("a", 1, "different", "2"),
    sample("a", 2, "different", "2.0"),
    sample("a", 3, "different", "3"),
    # b: 2 of the 3 that were judged; the majority is right
    sample("b", 0, "matched", "1"),
    sample("b", 1, "matched", "1"),
    sample("b", 2, "timed_out", "1+"),
    sample("b", 3, "no_answer", None, ended=False),
    # without its image a is never right, and b never judged
    *(sample("a", number, "different", "2", "none") for number in range(4)),
    *(sample("b", number, "timed_out", "1+", "none") for number in range(4)),
]


def test_the_numbers_by_hand():
    found = summarise(SAMPLES, ["true", "none"], 4)
    numbers = found["conditions"]["true"]
    assert numbers["questions"] == 2 and numbers["samples"] == 8
    assert numbers["avg@4"] == pytest.approx((1 / 4 + 2 / 3) / 2)
    # resampled are questions: the ends are one question twice, which half of the draws are
    assert numbers["accuracy_ci95"] == pytest.approx((1 / 4, 2 / 3))
    # 3 of 8 right, and perhaps a fourth
    assert numbers["accuracy_bounds"] == [3 / 8, 4 / 8]
    # a: 1 - C(3, 2) / C(4, 2) = 1/2; b, whose timeout is not right: 1 - C(2, 2) / C(4, 2) = 5/6
    assert numbers["pass@2"] == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert numbers["pass@4"] == 1.0
    assert numbers["majority@4"] == 0.5
    assert numbers["verdicts"] == {"different": 3, "matched": 3, "no_answer": 1, "timed_out": 1}
    assert numbers["cut_off"] == 1 and numbers["mean_length"] == 11.5
    # only a was judged under both
    assert found["differences"]["true - none"] == {
        "questions": 1,
        "difference": pytest.approx(1 / 4),
        "ci95": pytest.approx((1 / 4, 1 / 4)),
    }
    lines = "\n".join(table(found, 4))
    assert "accuracy is 37.5% if those are all wrong, 50.0% if all right" in lines
    assert "its own image rather than no image: +25.0 points" in lines and "1 questions" in lines


def test_a_difference_of_nothing_judged_is_none():
    found = summarise([s for s in SAMPLES if s["id"] == "b"], ["true", "none"], 4)
    assert found["differences"] == {"true - none": None}
    assert found["conditions"]["none"]["avg@4"] is None
    lines = "\n".join(table(found, 4))
    assert "rather than no image: n/a" in lines


def test_answers_vote_together_in_whatever_spelling():
    assert same_votes(["1/2", "0.5", None, "\\frac{1}{2}", "2", "B", "b"]) == [
        *(0, 0, None, 0, 1, 2, 2),
    ]
    # for the gold 0.54, 0.54 cm is right; as answers they are the same only if both ways
    assert same_votes(["", " ", "x" * 2000]) == [None, None, None]


def folder(path, samples, **protocol):
    path.mkdir()
    (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples))
    told = {"prompt": "p", "decoding": {"n": 4}, "verifier": 1, "conditions": ["true", "none"]}
    result = {"model": {"name": path.name}, "protocol": {**told, **protocol}}
    (path / "result.json").write_text(json.dumps(result))
    return path


def test_two_models_on_the_same_questions(tmp_path):
    # the better one is right in 3 of 4 for a; b is as before
    better = [sample("a", n, "matched" if n else "different", "1") for n in range(4)]
    one = folder(tmp_path / "one", SAMPLES)
    two = folder(tmp_path / "two", [*better, *SAMPLES[4:8]])
    found = compare(one, two)
    numbers = found["conditions"]["true"]
    assert list(found["conditions"]) == ["true"]  # nothing of two is without its image
    assert numbers["questions"] == 2
    assert numbers["difference"] == pytest.approx((1 / 2 + 0) / 2)
    # solved is more than half of the samples: a by the second alone, b, with 2 of 4, by neither
    assert not questions(SAMPLES, "true")["b"].solved
    assert numbers["mcnemar"] == {"only_first": 0, "only_second": 1, "p": 1.0}
    lines = "\n".join(report(found))
    assert "the second has +25.0 points, 95 % interval +0.0 to +50.0, over 2 questions" in lines
    assert "second alone 1: McNemar's exact p = 1" in lines
    assert compare(two, one)["conditions"]["true"]["difference"] == pytest.approx(-1 / 4)


PROTOCOL = {
    "prompt": {"name": "p", "template": "{question}", "fingerprint": "a"},
    "decoding": {"n": 4, "top_p": 1.0},
    "verifier": {
        "extractor": {"name": "boxed-last", "version": 1},
        **{"golds": 2, "math-verify": "0.9.0", "deadline": 2.0},
    },
    "benchmark": {"name": "geo3k"},
    **{"revision": "c0ffee", "fingerprint": "f1", "questions": 2, "ids_blake2b": "b1"},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": {**PROTOCOL["prompt"], "name": "q"}}, "prompt: name 'p' and name 'q'"),
        ({"decoding": {"n": 8, "top_p": 1.0}}, "decoding: n 4 and n 8"),
        (
            {"verifier": {**PROTOCOL["verifier"], "extractor": {"name": "boxed-last"}}},
            "extractor: version 1 and without these",
        ),
        (
            {"verifier": {**PROTOCOL["verifier"], "golds": 1}},
            "what counts as the same answer: 2 and 1",
        ),
        ({"verifier": {**PROTOCOL["verifier"], "math-verify": "1"}}, "math-verify: 0.9.0 and 1"),
        ({"verifier": {**PROTOCOL["verifier"], "deadline": 9}}, "of the verifier: 2.0 and 9"),
        ({"benchmark": {"name": "mmk12"}}, "benchmark: geo3k and mmk12"),
        ({"task": "digits"}, "task: unknown and digits"),
        ({"revision": "beef"}, "data revision: c0ffee and beef"),
        ({"fingerprint": "f2"}, "data: f1 and f2"),
        ({"data_sha256": "d"}, "data of the task: unknown and d"),
        ({"questions": 3}, "number of questions: 2 and 3"),
        ({"ids_blake2b": "b2"}, "rows: b1 and b2"),
    ],
)
def test_what_was_not_asked_alike_is_not_compared(tmp_path, change, said):
    one = folder(tmp_path / "one", SAMPLES, **PROTOCOL)
    other = folder(tmp_path / "other", SAMPLES, **{**PROTOCOL, **change})
    with pytest.raises(ValueError, match="were not asked alike, so nothing is compared") as error:
        compare(one, other)
    parts = str(error.value).partition("would not be the models'. ")[2].split(". Ask one")[0]
    assert parts.endswith(said) and ";" not in parts  # it, and nothing else
    alike = folder(tmp_path / "alike", SAMPLES, **PROTOCOL, conditions=["true"], seed=3)
    assert compare(one, alike)["conditions"]["true"]["difference"] == 0


def test_all_that_differs_is_named(tmp_path):
    one = folder(tmp_path / "one", SAMPLES, **PROTOCOL)
    other = folder(tmp_path / "other", SAMPLES, **{**PROTOCOL, "revision": None, "questions": 3})
    with pytest.raises(
        ValueError, match=r"data revision: c0ffee and unknown; number of questions: 2 and 3\. Ask"
    ):
        compare(one, other)


def test_what_cannot_be_compared_is_refused(tmp_path):
    one = folder(tmp_path / "one", SAMPLES)
    strange = folder(tmp_path / "strange", [sample("a", 0, "matched", "7", gold="7")])
    with pytest.raises(ValueError, match=r"'a' has the answer '1' in .*one and '7' in"):
        compare(one, strange)
    apart = folder(tmp_path / "apart", [sample("z", 0, "matched", "1")])
    with pytest.raises(ValueError, match="no question under the same image in common"):
        compare(one, apart)
    with pytest.raises(FileNotFoundError, match="holds no finished evaluation"):
        compare(one, tmp_path)


def test_paired_differences_are_over_common_questions():
    first, second = questions(SAMPLES, "true"), questions(SAMPLES[:4], "true")
    assert paired_difference(first, second)["questions"] == 1
    assert paired_difference(first, {}) is None
