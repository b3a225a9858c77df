"""EasyR1's rewards: its format by hand, and mathruler run in a worker."""

import re
from pathlib import Path

import pytest

from sightline.rewards import Workers, easyr1, easyr1_accuracy, easyr1_format

SOURCE = Path(easyr1.__file__).with_name("by_mathruler.py")
MATHRULER = """
def extract_boxed_content(text):
    return text.split("\\\\boxed{")[1].split("}")[0]

def grade_answer(given, gold):
    if given == "hang":
        while True:
            pass
    return given == gold
"""


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>a</think>\\boxed{1}", 1.0),
        ("<think>a</think> so \\boxed{1} and more", 1.0),
        ("< think > a < / think > \\boxed{1}", 1.0),
        ("<think>\n a \n</think>\n\\boxed{}", 1.0),
        ("so <think>a</think>\\boxed{1}", 0.0),
        ("<think>\\boxed{1}</think>", 0.0),
        ("<think>\\boxed{1}</think>}", 0.0),
        ("<think>a\\boxed{1}", 0.0),
        ("<think>a</think>\\boxed{1", 0.0),
    ],
)
def test_easyr1_format(text, reward):
    assert easyr1_format([text]) == [reward]
    # the pattern and the substitution that EasyR1 publishes
    tight = re.sub(r"\s*(<|>|/)\s*", r"\1", text)
    pattern = re.compile(r"<think>.*</think>.*\\boxed\{.*\}.*", re.DOTALL)
    assert (pattern.fullmatch(tight) is not None) == bool(reward)


def test_easyr1_format_takes_linear_time():
    assert easyr1_format(["<think>" + "</think>\\boxed{" * 10_000, "<think>" + " " * 10**6]) == [
        0,
        0,
    ]


def test_easyr1_accuracy_runs_mathruler_in_a_worker(monkeypatch, tmp_path):
    workers = Workers("by_mathruler", "grade", file=SOURCE, deadline=0.3)
    monkeypatch.setattr(easyr1, "mathruler_workers", lambda: workers)
    (tmp_path / "mathruler").mkdir()
    (tmp_path / "mathruler" / "__init__.py").touch()
    (tmp_path / "mathruler" / "grader.py").write_text(MATHRULER)
    monkeypatch.syspath_prepend(tmp_path)
    responses = ["\\boxed{1 / 2}", "\\boxed{2}", "\\boxed{hang}", "no box"]
    metrics = {}
    rewards = easyr1_accuracy(responses, answer=["1/2"] * 4, log_metric=metrics.__setitem__)
    assert rewards == [1.0, 0.0, None, None]
    assert metrics["easyr1_accuracy/timed_out"] == metrics["easyr1_accuracy/raised"] == 0.25


def test_without_mathruler_it_says_what_to_install():
    with pytest.raises(ImportError, match="pip install mathruler sympy pylatexenc tqdm"):
        easyr1_accuracy(["\\boxed{1}"], answer=["1"])
