"""Prompt formats: their words, their places, their hashes."""

import pytest

from sightline.prompts import NONE, PROMPTS, Prompt, find_prompt
from sightline.rewards import THINK_BOXED


def test_a_question_is_framed_in_the_words_of_the_papers():
    # as tasks/digits.py joins a question and its instruction
    asked = [{"role": "user", "content": f"1+1?\n\n{THINK_BOXED}"}]
    assert PROMPTS["think-boxed"].render("1+1?") == asked
    # EasyR1's template is `{{ content | trim }} You FIRST think …`: trimmed, then one blank
    text = PROMPTS["easyr1-think-boxed"].text(" 1+1?\n")
    assert text.startswith("1+1? You FIRST think about the reasoning process as an internal mon")
    assert text.endswith("MUST BE enclosed within <think> </think> tags. The final answer MUST BE "
                         "put in \\boxed{}.")  # fmt: skip
    assert NONE.text(" 1+1?\n") == " 1+1?\n"  # nothing is added, nothing is changed


def test_image_placeholders_become_parts_where_they_stand():
    frame = Prompt("frame", 1, "Q: {question} A:")
    assert frame.render("<image>\nis <image> it?") == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Q: "},
                {"type": "image"},
                {"type": "text", "text": "\nis "},
                {"type": "image"},
                {"type": "text", "text": " it? A:"},
            ],
        }
    ]
    assert NONE.render("<image>x")[0]["content"] == [
        {"type": "image"},
        {"type": "text", "text": "x"},
    ]
    assert frame.render("x")[0]["content"] == "Q: x A:"
    # a question may hold braces, and the place itself
    assert frame.text("\\frac{1}{2} {question}") == "Q: \\frac{1}{2} {question} A:"


def test_the_hash_is_of_what_is_read_and_how():
    base = Prompt("a", 1, "{question} think")
    assert base.fingerprint() == Prompt("b", 2, "{question} think").fingerprint()
    assert base.fingerprint() != Prompt("a", 1, "{question} think.").fingerprint()
    assert base.fingerprint() != Prompt("a", 1, "{question} think", "letter").fingerprint()
    assert len({prompt.fingerprint() for prompt in PROMPTS.values()}) == len(PROMPTS) == 5
    assert all(name == prompt.name for name, prompt in PROMPTS.items())
    assert base.about() == {
        "name": "a",
        "version": 1,
        "template": "{question} think",
        "extractor": "boxed-last",
        "fingerprint": base.fingerprint(),
    }


def test_a_prompt_of_your_own_comes_from_a_file(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("Denk nach: {question}\nJa oder nein?\n", encoding="utf-8")
    found = find_prompt(str(file), "answer-tag")
    assert found == Prompt("mine", 1, "Denk nach: {question}\nJa oder nein?", "answer-tag")
    assert find_prompt("letter") is PROMPTS["letter"]
    file.write_text("no place")
    with pytest.raises(ValueError, match=r"'mine'.*\{question\} once, got it 0 times"):
        find_prompt(str(file))
    with pytest.raises(ValueError, match="got it 2 times"):
        Prompt("twice", 1, "{question}{question}")
    with pytest.raises(ValueError, match="unknown prompt 'boxd'; known: none, think-boxed"):
        find_prompt("boxd")
    with pytest.raises(ValueError, match=r"extractor must be one of .* got 'guess'"):
        Prompt("a", 1, "{question}", "guess")
