"""What files of other frameworks hold, and which column is taken for what."""

import base64
import json
import re

import pytest
from PIL import Image

from sightline.cli import main
from sightline.data.dialects import named_columns
from sightline.score.responses import read_responses


@pytest.fixture
def write(tmp_path):
    """Writes rows beside two pictures; returns the path."""
    for name, colour in (("x.png", "red"), ("y.png", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / name)

    def to_file(*rows, name="r.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return to_file


def only(path, **options):
    (row,) = (found := read_responses(path, **options)).rows or [found.bad[0]]
    return row


def data_url(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


# ---------------------------------------------------------------- columns


def test_samples_of_an_evaluation_that_were_cut_off_have_not_ended(write):
    row = {"prompt": "q", "images": ["x.png"], "response": "a", "split": "true image"}
    assert only(write({**row, "ended": True})).finished
    assert not only(write({**row, "ended": False})).finished


@pytest.mark.parametrize(
    "content",
    ["a <image>?", [{"type": "image"}, {"type": "text", "text": "a?"}]],
)
def test_a_sample_whose_picture_the_evaluation_did_not_keep_says_so(write, content):
    chat = [{"role": "user", "content": content}]
    sample = {"condition": "true", "chat": chat, "prompt": "a", "response": "r"}
    assert "--keep-images" in only(write({**sample, "images": []})).reason
    assert only(write({**sample, "images": ["x.png"]})).cells == ["x.png"]
    # asked without its picture, it has no place for one
    blind = [{"role": "user", "content": [{"type": "text", "text": "a?"}]}]
    assert only(write({**sample, "chat": blind, "images": []})).cells == []
    # of another program: its file lacks a picture, whatever the reason
    del sample["condition"]
    reason = "its prompt has 1 <image>, the row 0 images"
    assert only(write({**sample, "images": []})).reason == reason


def test_a_csv_holds_numbers_and_truths_as_text(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    (tmp_path / "r.csv").write_text(
        "prompt,image,response,reward,finished\n"
        "q,x.png,a,0.5,False\n"
        "q,x.png,b,True,true\n"
        "q,x.png,c,,MAX_TOKENS\n"
        "q,x.png,d,inf,\n"
    )
    found = read_responses(str(tmp_path / "r.csv"))
    assert [(row.reward, row.finished) for row in found.rows] == [
        (0.5, False),
        (1.0, True),
        (None, False),
    ]
    assert [bad.reason for bad in found.bad] == ["its reward must be finite, got inf"]


def test_columns_are_chosen_row_by_row(write):
    both = ["x.png", "y.png"]
    path = write(
        {"prompt": "q", "image": "x.png", "response": "a"},
        {"problem": "q", "images": ["y.png", "x.png"], "output": "b"},
        {"prompt": "q", "image": None, "images": [], "response": "c"},
        {
            "prompt": "q",
            "image": "x.png",
            "images": both,
            "response": "",
            "output": "d",
        },
    )
    found = read_responses(path)
    assert [row.cells for row in found.rows] == [
        ["x.png"],
        ["y.png", "x.png"],
        [],
        ["x.png", "y.png"],
    ]
    assert [row.text for row in found.rows] == ["a", "b", "c", "d"]
    assert found.taken == {
        "prompt": "prompt / problem",
        "images": "image / images",
        "response": "response / output",
    }


def test_two_columns_of_different_pictures_are_named(write):
    row = {"prompt": "q", "image": "x.png", "images": ["y.png"], "response": "a"}
    assert "columns images and image hold different pictures" in str(only(write(row)))
    told = only(write(row), columns={"images": "image"})
    assert told.cells == ["x.png"]


def test_columns_may_be_told(write):
    row = {"ask": "q", "prompt": "not this", "picture": "x.png", "said": "a", "ok": 1}
    columns = named_columns("prompt=ask, images=picture,response=said,reward=ok")
    read = only(write(row), columns=columns)
    assert (read.prompt[0]["content"], read.cells, read.text, read.reward) == (
        "q",
        ["x.png"],
        "a",
        1.0,
    )
    with pytest.raises(ValueError, match=r"--columns may name id, .* got colour"):
        read_responses(write(row), columns={"colour": "ask"})
    with pytest.raises(ValueError, match="there is no column nothing; there are ask"):
        read_responses(write(row), columns={"prompt": "nothing"})
    with pytest.raises(ValueError, match=r"no column holds the response.*--columns response=NAME"):
        read_responses(write(row))


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("a=b", {"a": "b"}),
        ("a=b,c=d=e", {"a": "b", "c": "d=e"}),
        ('{"a": "b"}', {"a": "b"}),
        ({"a": "b"}, {"a": "b"}),
        ("", None),
        (None, None),
    ],
)
def test_columns_are_written_as_pairs_or_json(told, found):
    assert named_columns(told) == found


@pytest.mark.parametrize("told", ["a", "a=", "=b", "a=b,", "[1]", '{"a": 1}'])
def test_other_ways_to_write_columns_are_refused(told):
    with pytest.raises(ValueError, match="--columns must be name=column"):
        named_columns(told)


def test_rows_without_an_id_are_called_by_their_line(write, tmp_path):
    rows = [{"prompt": "q", "image": "x.png", "response": word} for word in "ab"]
    (tmp_path / "r.jsonl").write_text(json.dumps(rows[0]) + "\n\n" + json.dumps(rows[1]) + "\n")
    found = read_responses(str(tmp_path / "r.jsonl")).rows
    assert [row.id for row in found] == ["line 1", "line 3"]  # the empty line counts
    assert found[0].prompt_id == found[1].prompt_id and [r.sample for r in found] == [0, 1]
    bad = read_responses(write({**rows[0], "image": "no.png"})).bad[0]
    assert str(bad).startswith("row 'line 1' (r.jsonl:1), image 'no.png': there is no such file")
    named = read_responses(write({**rows[0], "id": "a"}, {**rows[1], "id": "a"}, rows[0])).rows
    assert [row.id for row in named] == ["a-0", "a-1", "line 3"]


# ---------------------------------------------------------------- chats


def test_messages_of_openai(write, tmp_path):
    parts = [
        {"type": "text", "text": "is "},
        {"type": "image_url", "image_url": {"url": data_url(tmp_path / "y.png")}},
        {"type": "text", "text": " like "},
        {"type": "image_url", "image_url": {"url": "x.png", "detail": "low"}},
        {"type": "image", "image": f"file://{tmp_path}/x.png"},
    ]
    asked = {"role": "user", "content": parts}
    said = {"role": "assistant", "content": [{"type": "text", "text": "no"}]}
    path = write({"messages": [asked, said], "finish_reason": "length"})
    said_of_it = read_responses(path).description()
    assert "images ← messages, response ← messages, finished" in said_of_it
    assert said_of_it.endswith("id ← its place in the file")
    row = only(path)
    assert row.text == "no" and row.finished is False
    assert row.cells[0]["bytes"] == (tmp_path / "y.png").read_bytes()
    assert row.cells[1:] == ["x.png", f"{tmp_path}/x.png"]
    assert row.digests[1] == row.digests[2] != row.digests[0]
    bare = {"type": "image"}
    assert row.prompt == [{"role": "user", "content": [parts[0], bare, parts[2], bare, bare]}]
    beside = only(write({"messages": [asked], "response": "yes", "finish_reason": "stop"}))
    assert beside.text == "yes" and beside.finished
    question = only(write({"messages": [asked, said]}), answered=False)
    assert question.text is None and len(question.prompt) == 1


def part(url):
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, ASK]}


ASK = {"type": "text", "text": "what?"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": [part("https://a.org/b.png")]}, "b.png.*: it is a URL: nothing is fetched"),
        ({"prompt": [part("data:image/png,abc")]}, "without ;base64"),
        ({"prompt": [part("data:image/png;base64,YWJj?")]}, "is not base64"),
        ({"prompt": [part("../x.png")]}, "leaves the folder"),
        ({"prompt": [part("x.png")], "image": "x.png"}, "its messages hold pictures, and"),
        (
            {"prompt": [{"role": "system", "content": part("x.png")["content"]}, part("x.png")]},
            "a message of role 'system' holds a picture",
        ),
        (
            {"prompt": [part("x.png"), {"role": "assistant", "content": "b"}]},
            "it has another response beside it",
        ),
        ({"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]}, "holds no url"),
    ],
)
def test_a_chat_that_cannot_be_read_is_named(write, row, said):
    path = write({**row, "response": "a"})
    (bad,) = read_responses(path).bad
    assert re.search(said, str(bad)), str(bad)


def test_places_of_images_stay_where_they_are(write):
    row = {"prompt": "a <image> b <image>?", "images": ["x.png", "y.png"], "response": "r"}
    image = {"type": "image"}
    assert only(write(row)).prompt[0]["content"] == [
        {"type": "text", "text": "a "},
        image,
        {"type": "text", "text": " b "},
        image,
        {"type": "text", "text": "?"},
    ]


# ---------------------------------------------------------------- verl


def test_a_rollout_of_verl(write):
    # as written by its _dump_generations: Qwen's template, decoded without special tokens
    text = "system\nYou are kind.\nuser\nHow many\nare there?\nassistant\n"
    rollout = {"input": text, "output": "two", "gts": "2", "score": 0.1, "acc": False, "step": 7}
    row = only(write({**rollout, "images": ["x.png"]}))
    assert row.prompt == [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": "How many\nare there?"},
    ]
    assert (row.text, row.gold, row.step) == ("two", "2", 7.0)
    assert row.reward == 0.0  # its accuracy; the score counts the form too
    plain = only(write({**rollout, "input": "user\nWhat?\nassistant\n", "image": "x.png"}))
    assert plain.prompt == [{"role": "user", "content": "What?"}]
    assert (
        only(write({**rollout, "input": "What?", "image": "x.png"})).prompt[0]["content"] == "What?"
    )
    several = "user\na\nassistant\nb\nuser\nc\nassistant\n"
    assert "several turns" in str(only(write({**rollout, "input": several})))
    other = only(write({**rollout, "input": "User: a\nAssistant:"}))
    assert "not Qwen's" in str(other)


def test_a_rollout_without_images_says_so(write, tmp_path, capsys):
    path = write({"input": "user\na\nassistant\n", "output": "two", "score": 1})
    assert main(["score", "--model", "tiny", "--responses", path, "-o", str(tmp_path / "o")]) == 2
    assert "verl and EasyR1 write hold no images: add a column" in capsys.readouterr().err
