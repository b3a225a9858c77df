"""What columns are taken for what, and what becomes of a prompt."""

import pytest

from sightline.data.dialects import Columns, convert, gold, messages
from sightline.prompts import NONE, PROMPTS, Prompt

IMAGE = {"type": "image"}


def text(words):
    return {"type": "text", "text": words}


def user(content):
    return [{"role": "user", "content": content}]


def test_both_dialects_are_recognised():
    easyr1 = Columns.of(["images", "problem", "answer"])  # hiyouga/geometry3k
    assert easyr1 == ("problem", "images", "answer", None)
    assert Columns.of(["prompt", "image", "solution"]) == ("prompt", "image", "solution", None)
    virl = ["answer", "PassRate_32BTrained", "question", "category", "source", "qid", "image"]
    assert Columns.of(virl) == ("question", "image", "answer", "qid")
    # a worked solution beside a short answer is not the gold
    assert Columns.of(["problem", "solution", "answer"]) == ("problem", None, "answer", None)
    chosen = {"prompt": "query", "answer": "solution"}
    assert Columns.of(["query", "solution", "answer"], chosen) == ("query", None, "solution", None)


def test_what_is_missing_is_named_with_what_there_is():
    with pytest.raises(
        ValueError, match=r"no column holds the prompt: .*problem.*\['answer', 'x'\]"
    ):
        Columns.of(["x", "answer"])
    with pytest.raises(ValueError, match=r"the answer: .*columns=\{'answer': \.\.\.\}"):
        Columns.of(["problem"])
    with pytest.raises(ValueError, match=r"no column \['query'\]; there are"):
        Columns.of(["problem", "answer"], {"prompt": "query"})
    with pytest.raises(ValueError, match=r"columns may name .* got \['gold'\]"):
        Columns.of(["problem", "answer"], {"gold": "answer"})


def test_columns_in_the_way_are_left_out():
    names = ["problem", "prompt", "answer", "image", "images", "messages", "level"]
    taken = Columns.of(names, {"prompt": "problem"})
    assert taken.left_out(names) == ["image", "messages", "prompt"]
    names = ["question", "image", "answer", "completions"]
    assert Columns.of(names).left_out(names) == ["completions"]


def test_prompts_by_hand():
    assert messages("<image>Find x.", NONE, 1) == user([IMAGE, text("Find x.")])
    assert messages("a <image>, b <image>?", NONE, 2) == user(
        [text("a "), IMAGE, text(", b "), IMAGE, text("?")]
    )
    # without a placeholder the pictures come first, where TRL puts them into plain text
    assert messages("Find x.", NONE, 2) == user("Find x.")
    assert messages("1+1?", NONE, 0) == user("1+1?")
    chat = [{"role": "system", "content": "Be <image> brief."}, *user("<image>Hm?")]
    assert messages(chat, NONE, 1) == [chat[0], *user([IMAGE, text("Hm?")])]
    # parts, as a table gives them back, with None for what they do not have
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "Hm?"}]
    assert messages(user(parts), NONE, 1) == user([IMAGE, text("Hm?")])
    assert messages(user([text("Hm?")]), NONE, 1) == user("Hm?")


def test_the_format_goes_around_the_last_words_of_the_user():
    chat = [*user("<image>Hm?"), {"role": "assistant", "content": "7"}, *user("Sure? ")]
    frame = Prompt("frame", 1, "{question}!")
    assert messages(chat, frame, 1) == [*user([IMAGE, text("Hm?")]), chat[1], *user("Sure?!")]


@pytest.mark.parametrize("images", [0, 1, 3, 4])
def test_placeholders_and_images_must_agree(images):
    # 2 placeholders: one image less, one more, and none at all
    with pytest.raises(ValueError, match=f"prompt has 2 <image>, the row {images} images"):
        messages("a <image> b <image>", NONE, images)


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        7,
        [],
        "",
        " \n",
        ["words"],
        [{"role": "user"}],
        [{"role": "tool", "content": "x"}],
        [{"role": "assistant", "content": "x"}],
        user(None),
        user([{"type": "image", "image": "cat.png"}, text("x")]),
        user([{"type": "video"}, text("x")]),
        user(["x"]),
    ],
)
def test_what_is_no_prompt_is_refused(prompt):
    with pytest.raises(ValueError, match=r"prompt|content"):
        messages(prompt, NONE, 0)


def test_a_picture_inside_the_prompt_is_not_taken_for_a_placeholder():
    inside = user([{"type": "image", "image": "cat.png"}, text("x")])
    with pytest.raises(ValueError, match=r"neither text nor a bare image, but .*cat\.png"):
        messages(inside, NONE, 1)


def test_golds_are_text():
    assert [gold(value) for value in ("A", 7, 0.5, True)] == ["A", "7", "0.5", "True"]
    for value, reason in ((None, "got nothing"), (["A"], "got list"), (" ", "is empty")):
        with pytest.raises(ValueError, match=reason):
            gold(value)


def test_ids_are_the_rows_own_or_a_hash_that_lasts():
    columns = Columns("problem", "images", "answer", "qid")
    row = {"problem": "<image>x?", "images": ["a.png"], "answer": "3", "qid": 7}
    assert convert(row, columns, NONE).id == "7"
    for own in (None, "", " "):
        assert len(convert({**row, "qid": own}, columns, NONE).id) == 16
    row["qid"] = None
    base = convert(row, columns, NONE).id
    # neither the format of the prompt, nor another dialect or cell of the same, changes it
    assert convert(row, columns, PROMPTS["letter"]).id == base
    chat = {
        **row,
        "problem": user([IMAGE, text("x?")]),
        "images": [{"path": "a.png", "bytes": None}],
    }
    assert convert(chat, columns, NONE).id == base
    assert base == "b056279020fcbaa7"
    for change in (
        {"problem": "<image>y?"},
        {"answer": "4"},
        {"images": ["b.png"]},
        {"images": [b"1"]},
    ):
        assert convert({**row, **change}, columns, NONE).id != base
