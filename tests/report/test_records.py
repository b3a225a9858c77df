import json

import pytest

from sightline.report.records import number, read_lines, read_object, read_response
from sightline.report.runs import read_run


def response(**changes):
    record = {
        "id": "heldout-00001",
        "split": "heldout",
        "images": ["a.png"],
        "tokens": ["two", " plus"],
        "dependency": [2.0, 0.5],
        "weights": [1.5, 0.25],
        "labels": ["visual", "other"],
        "views": {"blind": {"log_ratio": [-1.0, 0.1], "kl": [1.2, 0.3]}},
        "reward": 1.0,
        "reward_reason": "matched",
    }
    return read_response(record | changes)


@pytest.mark.parametrize("value, expected", [(2, 2.0), (-0.5, -0.5), (1e100, 1e100)])
def test_number(value, expected):
    assert number(value) == expected and isinstance(number(value), float)


@pytest.mark.parametrize(
    "value",
    [True, "2", None, [], float("nan"), float("inf"), 10**400, 1e101],
    ids=lambda value: f"{value!r:.12}",
)
def test_not_a_number(value):
    assert number(value) is None


def test_complete_record():
    read = response()

    assert read.dependency == [2.0, 0.5]
    assert read.mean_dependency == 1.25
    assert read.views == {"blind log-ratio": [-1.0, 0.1], "blind KL": [1.2, 0.3]}
    assert read.right is True
    assert read.not_scored == "" and read.dropped == []


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"images": [], "dependency": None}, "no image"),
        ({"images": [], "dependency": [0.0, 0.0]}, "no image"),
        ({"dependency": None}, "no dependency recorded"),
        ({"dependency": [2.0]}, "dependency does not line up with the tokens"),
        ({"dependency": "2.0"}, "dependency does not line up with the tokens"),
        ({"dependency": [None, float("nan")]}, "no finite dependency"),
        ({"tokens": [], "dependency": []}, "no tokens"),
    ],
)
def test_a_response_without_a_score_says_why(changes, reason):
    read = response(**changes)

    assert read.not_scored == reason
    assert read.dependency is None and read.mean_dependency is None


def test_zeros_of_a_response_with_an_image_are_a_measurement():
    assert response(dependency=[0.0, 0.0]).mean_dependency == 0.0


def test_a_gap_is_left_out_of_the_mean():
    read = response(dependency=[2.0, None])

    assert read.finite_dependency == [2.0] and read.mean_dependency == 2.0


def test_columns_that_do_not_line_up_are_dropped_by_name():
    read = response(weights=[1.0], labels=["visual"], views={"blind": {"log_ratio": [0.1]}})

    assert read.weights is None and read.labels is None and read.views == {}
    assert read.dropped == ["weights", "blind log-ratio", "labels"]
    assert read.dependency == [2.0, 0.5]


@pytest.mark.parametrize(
    "reason, reward, right",
    [
        ("matched", 0.0, True),
        ("different", 1.0, False),
        ("no_answer", None, False),
        (None, 1.0, True),
        (None, 0.0, False),
        (None, None, None),
    ],
)
def test_right_goes_by_the_reason_before_the_reward(reason, reward, right):
    assert response(reward_reason=reason, reward=reward).right is right


@pytest.mark.parametrize("junk", [None, 3, "text", [1], {"a": 1}])
@pytest.mark.parametrize(
    "key", ["id", "tokens", "images", "dependency", "views", "labels", "step", "prompt", "gold"]
)
def test_junk_in_any_field_still_reads(key, junk):
    read = response(**{key: junk})

    for column in (read.dependency, read.weights, read.labels, *read.views.values()):
        assert column is None or len(column) == len(read.tokens)


def test_a_half_written_last_line_is_named_and_the_rest_is_read(tmp_path):
    path, problems = tmp_path / "tokens.jsonl", []
    whole = json.dumps({"text": "separator \u2028 é"}, ensure_ascii=False).encode()
    path.write_bytes(whole + b"\n\n" + whole + b"\n" + whole[:-3])  # ends inside a character

    assert len(read_lines(path, problems)) == 2
    assert problems == [
        "tokens.jsonl: 1 line could not be read (line 4; the last one is half-written). "
        "The rest is shown."
    ]


def test_bad_lines_inside_a_file_are_counted(tmp_path):
    path, problems = tmp_path / "tokens.jsonl", []
    path.write_bytes(b'{"a": 1}\n[1]\n{"a"\n' + b"[" * 100_000 + b"\n\xff\n" + b'{"a": 2}\n')

    assert read_lines(path, problems) == [{"a": 1}, {"a": 2}]
    assert problems == [
        "tokens.jsonl: 4 lines could not be read (line 2, 3, 4, 5). The rest is shown."
    ]


def test_a_whole_last_line_needs_no_newline(tmp_path):
    path, problems = tmp_path / "tokens.jsonl", []
    path.write_bytes(b'{"a": 1}\n{"a": 2}')

    assert read_lines(path, problems) == [{"a": 1}, {"a": 2}] and problems == []


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe\xfa", b"[" * 100_000])
def test_unreadable_object_is_named(tmp_path, content):
    path, problems = tmp_path / "run.json", []
    path.write_bytes(content)

    assert read_object(path, problems) == {}
    assert problems == ["run.json is not a readable JSON object; nothing of it is shown."]


def test_missing_files_are_no_problem(tmp_path):
    problems = []

    assert read_object(tmp_path / "run.json", problems) == {}
    assert read_lines(tmp_path / "tokens.jsonl", problems) == []
    assert problems == []


def test_a_half_written_scoring_shows_what_there_is(tmp_path):
    line = json.dumps({"id": "a", "tokens": ["x"], "dependency": [1.0], "images": ["a.png"]})
    (tmp_path / "run.json").write_text('{"kind": "score"}')
    (tmp_path / "tokens.partial.jsonl").write_text(f'{line}\n{line}\n{{"id')
    run = read_run(tmp_path)
    assert [response.id for response in run.responses] == ["a", "a"]
    (tmp_path / "tokens.jsonl").write_text(line + "\n")
    assert len(read_run(tmp_path).responses) == 1 and read_run(tmp_path).problems == []
