"""`sightline train --dry-run`, and the flags of a run's plan."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor

from sightline import tiny_vlm
from sightline.cli import main
from sightline.run_arguments import parse
from sightline.train import adapters, limit_pixels, train


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv):
    assert main(["train", *argv]) == 2
    return capsys.readouterr().err


def test_the_page_says_what_the_run_would_be(in_folder, capsys):
    assert main(["train", "--dry_run", "--learning_rate", "3e-4", "--algorithm", "prpo"]) == 0
    out = capsys.readouterr().out
    # 2,000 questions in batches of 128 / 8 prompts, 3 epochs
    for line in (
        r"  rows                     2000",
        r"  stability_scale  0.5",
        r"  learning_rate                0.0003",
        r"  epsilon_high                 0.28",
        r"  rollout batches   375 of 16 prompts x 8",
        r"  optimizer steps   375, 128 responses each",
        # pictures of up to 64 cells, responses of up to 64 tokens
        r"  tokens of a row   152 to 278: 150 of text (assumed), 1 to 64 per image, up to 64 of",
        "most at one time",
        "view blind: no image tokens, no tower",
        "view noise: with the tower",
    ):
        assert line in out
    # not what is TRL's default, nor what holds for the other source of rows
    assert not any(f"\n  {name} " in out for name in ("beta", "data", "prompt", "use_vllm"))
    assert "Note" not in out
    assert not list(in_folder.iterdir())


def test_the_page_warns_of_steps_that_are_rounded_away(in_folder, capsys):
    command = ["train", "--dry-run", "--model_init_kwargs", '{"dtype": "bfloat16"}']
    assert main([*command, "--learning_rate", "1e-6"]) == 0
    assert "a weight above 0.00049 does not move" in capsys.readouterr().out
    assert main([*command, "--learning_rate", "1e-6", "--lora_rank", "8"]) == 0
    assert "does not move" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--importance_sampling_level", "sequence"], "refuses importance_sampling_level"),
        (["--entropy_penalty", "0.1", "--loss_type", "grpo"], "refuses entropy_penalty=0.1"),
        (["--save_only_model"], "refuses save_only_model"),
        (["--learning_rat", "1"], "did you mean --learning_rate"),
        (["--threshold", "2"], "threshold must be in [0, 1], got 2.0"),
        (["--reward_weights", "1"], "--reward_weights must be one per reward"),
        (["--dynamic_sampling_reward", "luck"], "must be one of ['exact_answer', 'think_format']"),
        (["--dynamic_sampling_rounds", "-1"], "max_rounds must be at least 1"),
        (["--rows", "15"], "--rows must fill one rollout batch of 16 prompts, got 15"),
        (["--task", "chess"], "unknown task 'chess'"),
        (["--data", "rows.jsonl"], "no data at 'rows.jsonl'"),
        (["--data", "."], "holds no data"),
        (["--model", "Qwen/Qwen2.5-VL-3B-Instruct"], "weights or processor of 'Qwen/Qwen2.5-VL"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(in_folder, capsys, flags, sentence):
    assert sentence in refused(capsys, "--dry-run", *flags)


def test_data_that_is_there_is_described_and_not_read(in_folder, capsys):
    (in_folder / "data").mkdir()
    for part in (0, 1):  # 3 x 512 KiB in all, not Parquet
        content = bytes(2**19 * (1 + part))
        (in_folder / "data" / f"train-{part}.parquet").write_bytes(content)
    assert main(["train", "--dry-run", "--data", "data"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "- data: data@train: 2 file(s) .parquet, 1.5 MiB; no row was read" in out
    assert main(["train", "--dry-run", "--data", "owner/name@test"]) == 0
    assert "data: owner/name@test, which is taken for a Hub id; no" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--processes", "2"], "planned for 2 processes, got 1"),
        (["--sharding", "fsdp"], "planned for --sharding fsdp, and accelerate is not set to it"),
        (["--sharding", "half"], "--sharding must be one of ('none', 'fsdp'), got 'half'"),
        (["--lora_rank", "-1"], "--lora_rank must be at least 0, got -1"),
        (["--max_pixels", "9", "--min_pixels", "10"], "--max_pixels must be at least --min_pixels"),
        (
            ["--data", "rows.jsonl", "--dynamic_sampling_reward", "accuracy"],
            "left out with --data, whose rewards are one sum; got 'accuracy'",
        ),
        (
            ["--data", "rows.jsonl", "--prompt", "letter", "--reward_weights", "0.9", "0.1"],
            "--reward_weights must be one per reward, ['accuracy'], got [0.9, 0.1]",
        ),
        (["--overlong_cache", "65"], "at most max_completion_length, 64, got 65"),
        (["--data", "rows.jsonl"], "no data at 'rows.jsonl'"),
    ],
)
def test_a_run_that_is_not_as_planned_is_refused(in_folder, capsys, flags, sentence):
    assert sentence in refused(capsys, *flags)
    assert not list(in_folder.iterdir())


def test_a_plan_that_is_met_is_let_through(in_folder, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    flags = ["--processes", "1", "--sharding", "fsdp", "--data", "rows.jsonl"]
    assert "no data at 'rows.jsonl'" in refused(capsys, *flags)


def test_a_launch_with_fsdp_that_was_not_planned_is_refused(in_folder, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    said = refused(capsys, "--data", "rows.jsonl")
    assert "planned for --sharding none, and accelerate is set to FSDP: add --sharding fsdp" in said


def test_pixel_limits_reach_the_processor():
    processor = tiny_vlm.build_processor([])
    limit_pixels(processor, 1024, 4096)  # 4 to 16 cells of 16 x 16
    for side, patches in ((16, 4 * 4), (32, 4 * 4), (400, 4 * 16)):
        made = processor.image_processor(images=[Image.new("RGB", (side, side))])
        assert len(made["pixel_values"]) == patches
    limit_pixels(processor, 0, 2048)
    assert processor.image_processor.size["shortest_edge"] == 1024
    with pytest.raises(ValueError, match="at least 1024 pixels and at most 512"):
        limit_pixels(processor, 0, 512)
    tiles = SimpleNamespace(image_processor=SimpleNamespace(size={"longest_edge": 64}))
    with pytest.raises(ValueError, match="limits like Qwen's"):
        limit_pixels(tiles, 0, 512)


def test_lora_trains_adapters_only(in_folder, capsys):
    assert adapters(parse([])[0]) is None
    command = "--lora_rank 2 --lora_alpha 6 --rows 2 --per_device_train_batch_size 4 --threads 1"
    command += " --num_generations 2 --max_completion_length 8 --max_steps 1 --output_dir run"
    command += " --min_pixels 512 --max_pixels 1024 --learning_rate 0.01"
    command += " --entropy_penalty 0.1"  # a gradient, whatever was earned
    train(command.split())
    saved = json.loads((in_folder / "run" / "checkpoint" / "adapter_config.json").read_text())
    assert saved["r"] == 2 and saved["lora_alpha"] == 6
    weights = load_file(in_folder / "run" / "checkpoint" / "adapter_model.safetensors")
    assert len(weights) == 4 * 7 * 2  # layers, adapted in each, factors of each
    assert all("language_model" in name and "lora_" in name for name in weights)
    # B starts at 0
    assert any(torch.any(value != 0) for name, value in weights.items() if "lora_B" in name)
    processor = AutoImageProcessor.from_pretrained(in_folder / "run" / "checkpoint")
    assert dict(processor.size) == {"shortest_edge": 512, "longest_edge": 1024}
    run = json.loads((in_folder / "run" / "run.json").read_text())
    assert run["lora"] == {"rank": 2, "alpha": 6} and run["pixels"] == [512, 1024]
