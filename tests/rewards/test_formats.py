"""What a response looks like, and the demo's reward."""

import pytest

from sightline.rewards import exact_answer, text_of, think_format


def test_exact_answer_takes_messages_and_text():
    completions = [[{"role": "assistant", "content": "\\boxed{5}"}], "\\boxed{5}", "5"]
    assert exact_answer(completions, ["5", "6", "5"], prompts=None) == [1.0, 0.0, 0.0]


def test_the_text_of_messages_is_that_of_their_text_parts():
    parts = [{"type": "text", "text": "a"}, {"type": "image", "image": None}, {"text": "b"}, "c"]
    called = {"role": "assistant", "content": None, "tool_calls": [{"name": "crop"}]}
    assert text_of([called, {"role": "assistant", "content": parts}, {"content": "d"}]) == "abcd"
    assert text_of([{"role": "assistant", "tool_calls": []}]) == text_of([]) == ""
    assert exact_answer([[called], "\\boxed{5}"], ["5", "5"]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("completion", "sentence"),
    [
        (None, "must be text or chat messages, got NoneType: 'None'"),
        (5, "must be text or chat messages, got int: '5'"),
        ([3], "messages must be mappings, got int: '3'"),
        ([{"content": 7}], "content must be text or parts, got int: '7'"),
        ([{"content": {"text": "a"}}], "content must be text or parts, got dict"),
        ([{"content": [7]}], "a part of a message must be a mapping, got int: '7'"),
        ([{"content": [{"type": "text"}]}], "must hold text, got NoneType: 'None'"),
    ],
)
def test_what_is_no_completion_is_named(completion, sentence):
    with pytest.raises(ValueError, match=sentence):
        text_of(completion)


def test_exact_answer_refuses_columns_of_another_length():
    with pytest.raises(ValueError):
        exact_answer(["a"], ["1", "2"])


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think> a </think> \\boxed{1}", 1.0),
        ("<think> a\nb </think>\n\\boxed{1}\n", 1.0),
        ("<think> a </think> \\boxed{ \\frac{1}{2} }", 1.0),
        ("<think> a </think> \\boxed{1} \\boxed{2}", 0.0),
        ("<think> a </think> \\boxed{1}, {2}", 0.0),
        ("<think> a </think> \\boxed{1", 0.0),
        ("<think> a </think> \\boxed{}", 0.0),
        ("<think> a \\boxed{1}", 0.0),
        ("a </think> \\boxed{1}", 0.0),
        ("<think> a </think> \\boxed{1} and more", 0.0),
    ],
)
def test_think_format(text, reward):
    assert think_format([text]) == [reward]


def test_the_format_takes_linear_time():  # 16 kB would take a pattern 0.3 s, and 1 MB minutes
    hostile = "<think>" + "</think>\\boxed{}" * 60_000 + "x"
    nested = "<think> a </think> \\boxed{" + "{" * 500_000 + "}" * 500_000 + "}"
    assert think_format([hostile, hostile[:-1], nested]) == [0.0, 0.0, 1.0]
