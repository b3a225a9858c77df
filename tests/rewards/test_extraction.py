"""Which part of a response is its answer."""

import time

import pytest

from sightline.rewards import EXTRACTORS, boxed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("so \\boxed{12}", "12"),
        ("\\boxed{7} no, \\boxed{ 12 }", "12"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{3} and \\boxed{4", "3"),
        ("\\boxed{3 and \\boxed{4} {", "4"),
        ("\\boxed{1 \\boxed{2} 3}", "2"),
        ("}}\\boxed{5}}", "5"),
        ("\\boxed{}", ""),
        ("boxed{12}", None),
        ("12", None),
    ],
)
def test_the_last_complete_box_counts(text, content):
    assert boxed(text) == content


def test_a_million_braces_cost_no_more_than_their_length():
    started = time.monotonic()
    assert boxed("\\boxed{" * 100_000) is None
    assert boxed("{" * 10_000 + "\\boxed{1}" + "}" * 1_000_000) == "1"
    assert time.monotonic() - started < 5  # the square of the length would be hours


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<answer>1</answer> or <answer> 12 </answer>", "12"),
        ("<answer>\\boxed{12}</answer>", "12"),
        ("<answer>1</answer> <answer>2", "1"),
        ("<answer></answer>", ""),
        ("</answer><answer>", None),
        ("\\boxed{12}", None),
    ],
)
def test_the_last_closed_tag_counts(text, content):
    assert EXTRACTORS["answer-tag"].find(text) == content


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("Because A is larger.\n\n**C**\n", "C"),
        ("The answer is (D).", "D"),
        ("Answer: B", "B"),
        ("B. 12 cm", "B"),
        ("A dog is in the picture", None),
        ("A or B", None),
        ("the answer is 12", None),
        ("", None),
    ],
)
def test_a_last_line_that_is_a_letter_counts(text, content):
    assert EXTRACTORS["letter"].find(text) == content


def test_extractors_say_name_and_version():
    assert {name: e.version for name, e in EXTRACTORS.items()} == {
        "boxed-last": 1,
        "answer-tag": 1,
        "letter": 1,
    }
    assert all(name == extractor.name for name, extractor in EXTRACTORS.items())
