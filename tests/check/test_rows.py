"""What `check` finds in rows."""

import json

import pytest
from PIL import Image

from sightline.check.findings import OK, PROBLEM, WARNING
from sightline.check.rows import Account, Facts, Readable, duplicates, facts, overlap, picture_hash
from sightline.data.loading import find_rows


def on_rows(findings, severity=None):
    return [f for f in findings if f.row and severity in (None, f.severity)]


@pytest.fixture
def data(tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    whole = (tmp_path / "red.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    rows = [
        {"id": "a", "problem": "<image> 1?", "images": ["red.png"], "answer": 1},
        {"id": "b", "problem": "<image> 2?", "images": ["red.png", "red.png"], "answer": 2},
        {"id": "c", "problem": "<image> 3?", "images": ["cut.png"], "answer": 3},
        {"id": "d", "problem": "4?", "answer": 4},
        {"id": "e", "problem": "<image><image> 5?", "images": ["red.png"] * 2, "answer": 5},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_rows_that_cannot_be_used_are_named(data):
    rows = Readable(find_rows(data), 9, PROBLEM, "mend it")
    used = [facts(row) for row in rows]
    assert [row.id for row in used] == ["a", "d", "e"]
    account = Account("rows.jsonl", 5, used, rows.bad, "taken")
    source, summary, *bad = account.findings()
    assert (source.severity, summary.severity) == (OK, PROBLEM)
    # 5 rows in = 3 used + 2 listed, wherever the page speaks of them
    assert account.title() == "3 of 5 rows of rows.jsonl" and account.left_over == 0
    assert source.what == (
        "5 rows in rows.jsonl = 3 used + 2 listed; of those used, 1 without an image, 1 with "
        "several; taken"
    )
    assert summary.what == "2 of 5 rows cannot be used, and are listed"
    assert summary.numbers == {
        **{"rows": 3, "bad": 2, "without_image": 1, "several_images": 1},
        **{"rows_in": 5, "left_over": 0},
    }
    assert [(f.row, f.image, f.severity, f.do) for f in bad] == [
        ("b", "", PROBLEM, "mend it"),
        ("c", "'cut.png'", PROBLEM, "mend it"),
    ]
    assert "1 <image>, the row 2 images (rows.jsonl:2)" in bad[0].what
    assert "truncated" in bad[1].what


def test_an_image_that_is_not_there_is_named_by_its_path(data):
    data.write_text(json.dumps({"id": "g", "problem": "?", "images": ["gone.png"], "answer": 1}))
    rows = Readable(find_rows([json.loads(data.read_text())], root=data.parent), 9, WARNING, "")
    assert [(f.row, f.image) for f in rows.bad] == [("g", "'gone.png'")]
    assert "there is no such file" in rows.bad[0].what and list(rows) == []


def test_only_the_rows_that_are_trained_on_are_looked_at(data):
    rows = Readable(find_rows(data), 2, WARNING, "")
    assert [row["id"] for row in rows] == ["a", "d"]  # c, which is bad, takes nobody's place
    assert [f.row for f in rows.bad] == ["b", "c"]
    rows = Readable(find_rows(data), 1, WARNING, "")
    assert [row["id"] for row in rows] == ["a"]
    assert [f.row for f in rows.bad] == ["b"]  # found on the way in, before pictures are decoded
    used = [facts(row) for row in Readable(find_rows(data), 1, WARNING, "")]
    account = Account("rows.jsonl", 5, used, rows.bad, "")
    assert account.left_over == 3 and account.title() == "1 of 5 rows of rows.jsonl"
    assert (
        "5 rows in rows.jsonl = 1 used + 1 listed + 3 beyond --rows;" in account.findings()[0].what
    )


def test_good_rows_have_no_finding_and_no_rows_are_a_problem():
    used = [Facts("a", "1?", "1", ("x",))]
    account = Account("data", 1, used, [], "")
    assert account.title() == "1 rows of data"
    source, summary = account.findings()
    assert {source.severity, summary.severity} == {OK}
    assert "all 1 rows can be used" in summary.what and "1 used + 0 listed;" in source.what
    several = [*used, *(Facts(str(n), "2?", "2", ()) for n in range(2))]
    assert Account("data", 3, several, [], "").findings()[0].numbers["without_image"] == 2
    _, none, _ = Account("data", 0, [], [], "").findings()
    assert (none.severity, none.kind) == (PROBLEM, "rows.none")


def test_a_picture_is_known_by_its_pixels(tmp_path):
    picture = Image.effect_noise((40, 20), 60).convert("RGB")
    for name in ("a.png", "b.webp"):
        picture.save(tmp_path / name, lossless=True)
    stored = [Image.open(tmp_path / name) for name in ("a.png", "b.webp")]
    assert {picture_hash(p) for p in [*stored, picture]} == {picture_hash(picture)}
    other = picture.copy()
    other.putpixel((0, 0), (1, 2, 3))
    assert picture_hash(other) != picture_hash(picture)
    # as many bytes, in another shape
    black = [Image.new("RGB", size) for size in ((40, 20), (20, 40))]
    assert picture_hash(black[0]) != picture_hash(black[1])


def test_duplicates_and_contradictions():
    rows = [
        Facts("a", "how long?", "1", ("x",)),
        Facts("b", "how long?", "1 ", ("x",)),  # a again
        Facts("c", "how long?", "2", ("x",)),  # contradicts a
        Facts("d", "how long?", "1", ("y",)),  # another picture
        Facts("e", "how wide?", "1", ("x",)),  # another question
        Facts("f", "how long?", "1", ("x", "x")),  # more pictures
    ]
    found = duplicates(rows)
    assert [(f.row, f.kind, f.severity) for f in on_rows(found)] == [
        ("b", "rows.duplicate", WARNING),
        ("c", "rows.contradiction", PROBLEM),
    ]
    assert "row 'a'" in on_rows(found)[0].what and "'1', and the gold '2'" in on_rows(found)[1].what
    assert [f.severity for f in duplicates([rows[0], *rows[3:]])] == [OK, OK]


def test_images_of_the_evaluation_that_are_trained_on():
    trained = [Facts("a", "1?", "1", ("x", "y")), Facts("b", "2?", "2", ())]
    evaluation = [Facts("p", "3?", "3", ("z", "y")), Facts("q", "4?", "4", ("z",))]
    summary, row = overlap(trained, evaluation)
    assert (summary.severity, summary.numbers) == (PROBLEM, {"overlap": 1})
    assert (row.row, row.image) == ("p", "2") and "row 'a'" in row.what
    assert [f.severity for f in overlap(trained, evaluation[1:])] == [OK]
