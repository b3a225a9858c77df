"""The page of `check`, and its JSON."""

import json

import pytest

from sightline.check.findings import OK, PROBLEM, WARNING, Finding, with_summary, worst
from sightline.check.page import as_json, counts, lines_of, page

FINE = Finding(OK, "golds.accepted", "all are", "nothing to do")
ALSO = Finding(WARNING, "golds.shuffled", "one is", "look at it", "r0")
BAD = Finding(PROBLEM, "rows.unreadable", "it is cut", "mend it", "r1", "'a.png'", {"n": 1})


def test_the_page_names_rows_and_what_to_do():
    findings = with_summary("rows.unreadable", [BAD], "none", "one is bad", {})
    text = page("title", [*findings, FINE, ALSO], 2.4, False, "runs/check/check.jsonl")
    assert text.splitlines() == [
        "title",
        "",
        "rows",
        "  problem  unreadable: one is bad",
        "           → mend it",
        "",
        "golds",
        "  ok       accepted: all are",
        "",
        "rows in question",
        "  problem  row 'r1', image 'a.png': it is cut",
        "  warning  row 'r0': one is",
        "",
        "problem  1 problem, 1 warning, in 2 s",
        "all rows in question: runs/check/check.jsonl",
    ]


def test_twenty_rows_are_shown_and_problems_come_first():
    many = [Finding(WARNING, "golds.format", "odd", row=f"w{n:02}") for n in range(20)]
    text = page("title", [*many, BAD], 0.0, False, "")
    assert "rows in question, the first 20 of 21" in text
    assert "w18" in text and "w19" not in text and text.index("'r1'") < text.index("w00")
    assert "the first" not in page("title", many, 0.0, False, "")


def test_colours_and_what_others_wrote():
    hostile = Finding(PROBLEM, "rows.unreadable", "\x1b[2Jgone\r", "do", "\x1b]0;x\x07")
    plain = page("t\x1b[0m", [hostile, FINE], 0.0, False, "")
    assert "\x1b" not in plain and "\r" not in plain and "?[2Jgone?" in plain
    coloured = page("t", [hostile, FINE], 0.0, True, "")
    assert "\x1b[31;1mproblem\x1b[0m" in coloured and "\x1b[32mok     \x1b[0m" in coloured
    assert "\x1b[2J" not in coloured and "\x1b]0" not in coloured


def test_long_lines_are_broken_between_words():
    path = "/".join(["a-folder"] * 12)
    text = page("t", [Finding(OK, "rows.source", f"{path} {'word ' * 30}")], 0.0, True, "")
    _, _, _, first, second, third, *_ = text.splitlines()
    assert first.endswith("source:") and second == " " * 11 + path
    assert third.startswith(" " * 11 + "word word") and len(third) <= 100


def test_kinds_are_counted_and_rows_apart():
    again = Finding(PROBLEM, "rows.unreadable", "it is gone", "mend it", "r2")
    mixed = Finding(WARNING, "rows.unreadable", "odd", "", "r3")
    found = counts([FINE, ALSO, BAD, again, mixed])
    assert found == {"problems": 1, "warnings": 1, "rows_with_problems": 2}
    whole = Finding(PROBLEM, "rows.none", "none can be used", "mend the data")  # of no row
    assert counts([BAD, whole]) == {"problems": 2, "warnings": 0, "rows_with_problems": 1}
    assert [worst(f) for f in ([], [FINE], [FINE, ALSO], [ALSO, BAD, FINE])] == [
        *(OK, OK, WARNING, PROBLEM)
    ]


def test_the_json_has_everything_and_no_nan():
    odd = Finding(WARNING, "model.noise-floor", "what", numbers={"a": float("nan"), "b": 2})
    content = json.loads(as_json("title", [BAD, odd], 1.26))
    assert list(content) == [
        *("version", "checked", "problems", "warnings", "rows_with_problems", "seconds"),
        "findings",
    ]
    assert content["checked"] == "title" and content["seconds"] == 1.3
    assert content["findings"][0] == {
        "severity": "problem",
        "kind": "rows.unreadable",
        "what": "it is cut",
        "do": "mend it",
        "row": "r1",
        "image": "'a.png'",
        "numbers": {"n": 1},
    }
    assert content["findings"][1]["numbers"] == {"a": None, "b": 2}
    # in the file only what is about a row
    assert [json.loads(line)["row"] for line in lines_of([BAD, odd, ALSO]).splitlines()] == [
        *("r1", "r0")
    ]


def test_a_finding_says_what_to_do():
    with pytest.raises(ValueError, match=r"needs something to do, got none for rows\.none"):
        Finding(PROBLEM, "rows.none", "none")
    with pytest.raises(ValueError, match=r"severity must be one of .*, got 'bad'"):
        Finding("bad", "rows.none", "none")
