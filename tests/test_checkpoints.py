"""What makes a checkpoint whole, on files of no meaning."""

import json
from threading import Barrier

import pytest

from sightline import checkpoints
from sightline.checkpoints import (
    MANIFEST,
    damage,
    newest_whole,
    prune,
    publish,
    set_aside_after,
)


@pytest.fixture
def run(tmp_path):
    """A run with whole checkpoints at steps 8, 9 and 10, in that order."""
    for step in (8, 9, 10):
        draft = tmp_path / "checkpoint.draft" / "any"
        (draft / "deeper").mkdir(parents=True)
        (draft / "weights").write_bytes(bytes(range(step)))
        (draft / "deeper" / "state.json").write_text("{}")
        publish(draft, tmp_path / f"checkpoint-{step}")
        assert not draft.exists()
    return tmp_path


def test_the_newest_is_taken_by_its_step_and_not_by_its_name(run):
    assert newest_whole(run).name == "checkpoint-10"
    listed = json.loads((run / "checkpoint-10" / MANIFEST).read_text())["files"]
    assert {name: entry["bytes"] for name, entry in listed.items()} == {
        "weights": 10,
        "deeper/state.json": 2,
    }


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda folder: (folder / "weights").write_bytes(b"0123456789"), "weights is not what was"),
        (lambda folder: (folder / "weights").write_bytes(b""), "weights is not what was written"),
        (lambda folder: (folder / "weights").unlink(), "weights is missing"),
        (lambda folder: (folder / "deeper" / "state.json").unlink(), "state.json is missing"),
        (lambda folder: (folder / MANIFEST).unlink(), "was never finished"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest.json cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "manifest.json cannot be read"),
    ],
)
def test_any_harm_is_found_and_the_one_before_is_taken(run, harm, sentence):
    harm(run / "checkpoint-10")
    assert sentence in damage(run / "checkpoint-10")
    with pytest.warns(UserWarning, match=f"passed over: .*{sentence}"):
        assert newest_whole(run).name == "checkpoint-9"


def test_nothing_whole_is_an_error_that_names_what_there_was(run):
    for folder in run.glob("checkpoint-*"):
        (folder / "weights").unlink()
    with pytest.warns(UserWarning), pytest.raises(FileNotFoundError, match=r"checkpoint-8.weights"):
        newest_whole(run)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint-N in"):
        newest_whole(run / "elsewhere")


def test_a_step_that_is_reached_again_replaces_its_checkpoint(run):
    (run / "new").mkdir()
    (run / "new" / "weights").write_text("other")
    publish(run / "new", run / "checkpoint-9")
    assert (run / "checkpoint-9" / "weights").read_text() == "other"
    assert damage(run / "checkpoint-9") is None


def test_a_run_that_goes_on_earlier_parts_from_what_came_later(run):
    (run / "checkpoint-10" / "weights").unlink()  # damaged, or not
    set_aside_after(run, 8)
    assert newest_whole(run).name == "checkpoint-8"
    assert (run / "checkpoint-9.aside" / "weights").exists()  # nothing is lost
    publish(run / "checkpoint-10.aside", run / "checkpoint-9")
    set_aside_after(run, 8)  # and again
    assert sorted(path.name for path in run.iterdir() if "draft" not in path.name) == [
        "checkpoint-8",
        "checkpoint-9.aside",
    ]


def test_only_the_oldest_are_pruned(run):
    for all_of_them in (None, 0, -1):
        prune(run, all_of_them)
    assert len(list(run.glob("checkpoint-*"))) == 3
    prune(run, 2)
    assert sorted(path.name for path in run.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-9",
    ]


def test_files_are_read_side_by_side(run, monkeypatch):
    describe, both = checkpoints._describe, Barrier(2, timeout=30)

    def when_both_are_read(path):
        both.wait()
        return describe(path)

    monkeypatch.setattr(checkpoints, "_describe", when_both_are_read)
    assert damage(run / "checkpoint-10") is None
