"""The whole job, end to end, in miniature: what it leaves behind and what the numbers mean."""

import io
import json
from contextlib import redirect_stdout

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline import demo
from sightline.cli import main

FILES = (
    *("run.json", "metrics.jsonl", "tokens.jsonl", "heldout.jsonl", "result.json", "report.html"),
)


QUESTIONS, SHOWN = 24, 10


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Few held-out questions, and an empty folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "HELD_OUT", QUESTIONS)
        patch.setattr(demo, "RECORDED", SHOWN)
        patch.setitem(demo.TINY_SETTINGS, "per_device_train_batch_size", 16)
        patch.setitem(demo.TINY_SETTINGS, "logging_steps", 1)
        yield tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(small):
    """The result of a run in `small / "a"`, and what it printed."""
    with redirect_stdout(io.StringIO()) as out:
        return run(small / "a"), out.getvalue()


def run(folder, *flags, steps=1):
    command = ["demo", "--steps", str(steps), "--threads", "1", "--output-dir", str(folder), *flags]
    assert main(command) == 0
    return json.loads((folder / "result.json").read_text())


def test_the_demo_leaves_a_complete_run_folder(small, first):
    folder, (result, out) = small / "a", first

    assert all((folder / name).is_file() for name in FILES)
    assert set(result) >= {
        "algorithm",
        "seed",
        "steps",
        "n_heldout",
        "accuracy_before",
        "accuracy_after",
        "gain_ci95",
        "visual_tokens_auroc",
        "seconds",
        "peak_rss_mb",
    }
    assert set(result["seconds"]) == {"warm_start", "train", "scoring", "eval", "total"}
    assert (result["algorithm"], result["steps"], result["n_heldout"]) == ("pgpo", 1, QUESTIONS)
    low, high = result["gain_ci95"]
    assert low <= result["accuracy_after"] - result["accuracy_before"] <= high
    # the measure finds the tokens that must be read, on a model that half reads them
    assert result["visual_tokens_auroc"] > 0.9
    assert "held-out accuracy" in out and str(folder / "report.html") in out

    records = [json.loads(line) for line in (folder / "tokens.jsonl").read_text().splitlines()]
    heldout = [record for record in records if record["split"] == "heldout"]
    assert len(heldout) == SHOWN
    for record in heldout:
        assert (folder / record["images"][0]).is_file()
        assert (record["reward"] == 1) == (record["reward_reason"] == "matched")
        assert record["labels"] is None or record["labels"].count("visual") == 2
    assert {record["split"] for record in records} == {"train", "heldout"}

    model = AutoModelForImageTextToText.from_pretrained(folder / "checkpoint")
    processor = AutoProcessor.from_pretrained(folder / "checkpoint")
    rows = demo.digits.rows(QUESTIONS, seed=0, split="heldout")
    right, _ = demo.answer(model, processor, rows)
    assert sum(right) / QUESTIONS == pytest.approx(result["accuracy_after"])


def test_the_same_seed_gives_the_same_numbers_and_grpo_runs_the_same_job(small, first, capsys):
    (first, _), again = first, run(small / "b")
    for name in ("accuracy_before", "accuracy_after", "gain_ci95", "visual_tokens_auroc"):
        assert first[name] == again[name]
    for name in ("tokens.jsonl", "checkpoint/model.safetensors"):
        assert (small / "a" / name).read_bytes() == (small / "b" / name).read_bytes()

    plain = run(small / "c", "--algorithm", "grpo")
    assert plain["algorithm"] == "grpo"
    assert plain["accuracy_before"] == first["accuracy_before"]  # paired from the start
    assert plain["seconds"]["scoring"] == 0

    capsys.readouterr()
    assert main(["compare", str(small / "a"), str(small / "c")]) == 0
    shown = capsys.readouterr().out
    accuracies = f"{first['accuracy_after']:.1%} and {plain['accuracy_after']:.1%}"
    assert f"{QUESTIONS} held-out questions" in shown and accuracies in shown
    assert main(["compare", str(small / "a"), str(small)]) == 2


def test_an_interrupted_demo_says_what_it_keeps(small, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "look", interrupt)
    folder = small / "stopped"
    assert main(["demo", "--steps", "1", "--threads", "1", "--output-dir", str(folder)]) == 130
    message = capsys.readouterr().err
    assert "interrupted" in message and "checkpoint" in message and "Traceback" not in message
    assert (folder / "checkpoint" / "model.safetensors").is_file()
    assert not (folder / "result.json").exists()
