"""What a newcomer meets: commands, their files, and one clear sentence for each mistake."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from sightline.cli import main
from sightline.flags import unknown_flag


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv):
    """The one sentence that `sightline argv` is refused with."""
    assert main(list(argv)) == 2
    _, err = capsys.readouterr()
    assert err.startswith("sightline: ") and "Traceback" not in err
    return err


def test_an_unknown_algorithm_lists_the_known_ones(in_folder, capsys):
    for command in ("demo", "train"):
        assert "'ppo'; known: grpo, pgpo" in refused(capsys, command, "--algorithm", "ppo")
    assert not list(in_folder.iterdir())


def test_an_unknown_task_lists_the_known_ones(in_folder, capsys):
    assert "unknown task 'chess'; known: digits" in refused(capsys, "train", "--task", "chess")


def test_an_unknown_model_path_is_named(in_folder, capsys):
    assert "no model at './nowhere'" in refused(capsys, "train", "--model", "./nowhere")


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["demo", "--step", "3"], "--steps"),
        (["train", "--learning_rat", "1"], "--learning_rate"),
        (["train", "--threshhold", "1"], "--threshold"),
    ],
)
def test_an_unknown_flag_names_the_nearest(in_folder, capsys, argv, near):
    # T82
    message = refused(capsys, *argv)
    assert argv[1] in message and near in message


def test_an_unknown_yaml_key_names_the_nearest(in_folder, capsys):
    (in_folder / "run.yaml").write_text("lerning_rate: 1.0e-4\n")
    message = refused(capsys, "train", "--config", "run.yaml")
    assert "lerning_rate" in message and "--learning_rate" in message


def test_hyper_parameters_out_of_range_are_named(in_folder, capsys):
    assert "threshold must be in [0, 1], got 1.5" in refused(capsys, "train", "--threshold", "1.5")


def test_a_folder_of_another_run_is_left_alone(in_folder, capsys):
    (in_folder / "run").mkdir()
    (in_folder / "run" / "run.json").write_text("{}")
    for command in (["demo", "--output-dir", "run"], ["train", "--output_dir", "run"]):
        assert "belongs to another run" in refused(capsys, *command)
    assert [p.name for p in (in_folder / "run").iterdir()] == ["run.json"]


def test_a_full_disk_is_refused_before_anything_runs(in_folder, capsys, monkeypatch):
    monkeypatch.setattr("sightline.records.NEEDED_BYTES", 2**60)
    assert "MiB free, a run needs" in refused(capsys, "demo", "--output-dir", "run")


def test_counts_must_be_positive(in_folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--steps", "0"])
    assert stop.value.code == 2
    assert "must be at least 1, got 0" in capsys.readouterr().err


def test_near_flags():
    assert unknown_flag("--sead", ["--seed", "--rows", "-h"]) == (
        "unknown argument --sead; did you mean --seed?"
    )
    assert unknown_flag("--zzz=1", ["--seed"]) == "unknown argument --zzz=1"


def test_help_is_quick_and_names_the_commands():
    # neither `import sightline` nor a mistyped flag should wait for transformers
    heavy = ["transformers", "trl", "verl", "PIL", "matplotlib", "jinja2"]
    code = (
        "import sys, sightline\nfrom sightline.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n"
        f"    print('imported', [name for name in {heavy!r} if name in sys.modules])"
    )
    started = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert all(name in started.stdout for name in ("demo", "train", "report"))
    assert started.stdout.endswith("imported []\n")


def test_train_takes_yaml_and_flags_and_leaves_a_run_folder(in_folder, tiny, capsys):
    # a model folder, as a user has; flags win over the file; the algorithm's settings are flags too
    tiny.model.save_pretrained(in_folder / "model")
    tiny.processor.save_pretrained(in_folder / "model")
    (in_folder / "run.yaml").write_text(
        "algorithm: pgpo\nmodel: ./model\nrows: 4\nthreads: 1\nboost: 1.5\nmax_steps: 7\n"
        "per_device_train_batch_size: 4\nnum_generations: 2\nmax_completion_length: 6\n"
        "gradient_checkpointing: false\n"
    )
    assert main(["train", "--config", "run.yaml", "--max_steps", "1", "--threshold", "0.3"]) == 0
    folder = in_folder / "runs" / "train-pgpo"
    run = json.loads((folder / "run.json").read_text())
    assert run["algorithm"]["threshold"] == 0.3 and run["algorithm"]["boost"] == 1.5
    assert run["settings"]["max_steps"] == 1
    assert run["settings"]["vllm_importance_sampling_mode"] == "token_truncate"  # T58
    assert run["model"] == "./model" and run["rows"] == 4
    AutoModelForImageTextToText.from_pretrained(folder / "checkpoint")
    assert (folder / "metrics.jsonl").is_file()
    out = capsys.readouterr().out
    assert "runs/train-pgpo/checkpoint" in out
    # and again: the default folder is a fresh one
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").is_file()


def test_train_takes_data_of_ones_own(in_folder, capsys):
    Image.new("RGB", (32, 32), "red").save(in_folder / "red.png")
    rows = [{"problem": f"<image> {n} + 1?", "images": ["red.png"], "answer": n} for n in range(4)]
    rows.append({"problem": "<image> 1?", "images": ["blue.png"], "answer": 1})
    lines = [json.dumps(row) for row in rows]
    (in_folder / "rows.jsonl").write_text("\n".join(lines))
    command = (
        "train --overlong_cache 4 --data rows.jsonl --algorithm vppo --rows 3 --threads 1 "
        "--max_steps 1 --num_generations 4 --per_device_train_batch_size 8 "
        "--max_completion_length 6 --reward_weights 0.7 0.3"
    ).split()
    assert "image 'blue.png': there is no such file" in refused(capsys, *command)
    assert main([*command, "--bad_rows", "skip-and-list"]) == 0
    folder = in_folder / "runs" / "train-vppo"
    run = json.loads((folder / "run.json").read_text())
    assert run["data"]["rows"] == {"in": 5, "used": 4, "bad": 1} and run["rows"] == 3
    assert run["data"]["prompt"]["name"] == "think-boxed"
    assert run["rewards"]["weights"] == {
        "accuracy": 0.7,
        "think_format": 0.3,
        "soft_overlong_punishment": 1.0,
    }
    assert "blue.png" in (folder / "bad_rows.jsonl").read_text()
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert line["accuracy/mean"] == line["think_format/mean"] == 0
    assert line["reward"] == line["soft_overlong_punishment_reward/mean"] == -1  # 6 of 6 tokens
    assert line["accuracy/no_answer"] == 1  # it was not warmed up to box anything
    record = json.loads((folder / "tokens.jsonl").read_text().splitlines()[0])
    assert "+ 1?" in record["prompt"] and "\\boxed{}" in record["prompt"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--rows", "0"], "--rows must be at least 1, got 0"),
        (["--top_fraction", "0.3"], "--top_fraction is a flag of --algorithm vppo, not of pgpo"),
        (["--dynamic_sampling_rounds", "-1"], "max_rounds must be at least 1, got -1"),
        (["--eval_strategy", "steps"], "eval"),
        (["--model", "bert"], "'bert' is a bert model without vision"),
    ],
)
def test_a_request_that_cannot_be_met_leaves_no_run(in_folder, capsys, flags, sentence):
    (in_folder / "bert").mkdir()
    (in_folder / "bert" / "config.json").write_text('{"model_type": "bert"}')
    assert sentence in refused(capsys, "train", "--output_dir", "run", *flags)
    assert not list(in_folder.glob("run/*"))


def test_train_resumes_the_run_it_is_told_to_and_no_other(in_folder, tiny, capsys):
    tiny.model.save_pretrained(in_folder / "model")
    tiny.processor.save_pretrained(in_folder / "model")
    command = ["train", "--model", "./model", "--output_dir", "run", "--rows", "4", "--threads"]
    command += ["1", "--per_device_train_batch_size", "4", "--num_generations", "2"]
    command += ["--max_completion_length", "6", "--max_steps", "2", "--save_steps", "1"]
    again = [*command, "--resume_from_checkpoint", "newest"]
    capsys.readouterr()
    assert "run holds no run to resume" in refused(capsys, *again)
    assert main([*command, "--report_to", "none"]) == 0
    folder = in_folder / "run"
    end = load_file(folder / "checkpoint" / "model.safetensors")
    for name in ("checkpoint", "checkpoint-2"):
        shutil.rmtree(folder / name)
    capsys.readouterr()

    # what decides numbers must stay, what only shows them need not
    said = refused(capsys, *again, "--learning_rate", "0.5", "--seed", "3", "--boost", "1.5")
    assert "settings.learning_rate was" in said and "seed was 42, now 3" in said
    assert "algorithm.boost was 2.0, now 1.5" in said
    assert main([*again, "--logging_steps", "1"]) == 0
    resumed = load_file(folder / "checkpoint" / "model.safetensors")
    assert all(torch.equal(resumed[name], value) for name, value in end.items())
    run = json.loads((folder / "run.json").read_text())
    assert [entry["from"] for entry in run["resumed"]] == ["checkpoint-1"]

    for checkpoint in folder.glob("checkpoint-*"):
        (checkpoint / "manifest.json").unlink()
    capsys.readouterr()
    with pytest.warns(UserWarning, match="passed over"):
        assert "nothing to resume from: " in refused(capsys, *again)


def test_secrets_stay_out_of_the_recorded_command(monkeypatch):
    from sightline.train import command_line

    argv = ["x", "train", "--hub_token", "hf_a", "--api_key=b", "--task", "digits", "--seed", "1"]
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == ("sightline train --hub_token '***' --api_key --task digits --seed 1")


def test_broken_yaml_is_named(in_folder, capsys):
    (in_folder / "run.yaml").write_text("a: [1\n")
    assert "run.yaml is not YAML" in refused(capsys, "train", "--config", "run.yaml")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--config", "none.yaml"], "--config none.yaml: there is no such file; recipes/ holds"),
        (["--max_completion_length", "0"], "max_new_tokens"),
        (
            ["--data", "rows.jsonl", "--columns", "[1]"],
            "--columns must be name=column,… or a JSON object, got '[1]'",
        ),
        (["--max_pixels", "10"], "--max_pixels must leave an image one token, 256, got 10"),
        (["--max_stps", "1"], "did you mean --max_steps or --save_steps or --max_pixels?"),
    ],
)
def test_a_failing_request_says_why_and_leaves_nothing(in_folder, capsys, flags, sentence):
    (in_folder / "rows.jsonl").write_text('{"problem": "1?", "answer": 1}')
    assert sentence in refused(capsys, "train", *flags)
    assert [path.name for path in in_folder.iterdir()] == ["rows.jsonl"]


def test_columns_can_be_named(in_folder, capsys):
    (in_folder / "rows.jsonl").write_text('{"query": "1?", "answer": 1}')
    command = ["train", "--data", "rows.jsonl", "--rows", "1", "--max_steps", "1"]
    assert "name it with columns={'prompt': ...} (--columns prompt=NAME)" in refused(
        capsys, *command
    )
    named = refused(capsys, *command, "--columns", '{"prompt": "query"}')
    assert "no row of the training data has an image" in named


def test_rewards_of_a_run_follow_its_prompt_and_length():
    from sightline.run_arguments import parse
    from sightline.train import _rewards

    run, _, args = parse(["--data", "x.jsonl", "--prompt", "letter"])
    args.reward_weights = None  # the tiny model's
    (mixed,), about = _rewards(run, args)
    assert about["weights"] == {"accuracy": 1.0} and mixed.__name__ == "accuracy"
    assert mixed(completions=["so it is\nB", "so it is\nC"], answer=["B", "B"]) == [1.0, 0.0]
    run, _, args = parse(["--overlong_cache", "10", "--max_completion_length", "20"])
    functions, about = _rewards(run, args)
    assert args.reward_weights == [0.9, 0.1, 1.0] == list(about["weights"].values())
    assert functions[2](completion_ids=[[0] * 10, [0] * 15, [0] * 20]) == [0.0, -0.5, -1.0]
