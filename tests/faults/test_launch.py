"""Whole runs as users launch them, in processes of their own: minutes, so `make faults` asks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from test_resume import lines, same

pytestmark = [
    pytest.mark.skipif("SIGHTLINE_KILLS" not in os.environ, reason="takes minutes: make faults"),
    pytest.mark.timeout(900),
]
TRAIN = (
    "--algorithm vppo --rows 16 --max_steps 3 --per_device_train_batch_size 8 --logging_steps 1 "
    "--threads 1 --save_strategy steps --save_steps 1 --steps_per_generation 2 "
    "--gradient_accumulation_steps 1"
).split()
LAUNCH = "--cpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no".split()


def run(folder, processes=1, hash_seed=0, *more):
    """Train into `folder`."""
    program = [sys.executable, "-m", "sightline"]
    if processes == 2:
        accelerate = Path(sys.executable).with_name("accelerate")
        program = [str(accelerate), "launch", *LAUNCH, "-m", "sightline"]
    result = subprocess.run(
        [*program, "train", *TRAIN, "--output_dir", str(folder), *more],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def assert_same_run(first, second):
    weights = [load_file(folder / "checkpoint" / "model.safetensors") for folder in (first, second)]
    assert same(*weights)
    for name in ("metrics.jsonl", "tokens.jsonl"):
        assert lines(first, name) == lines(second, name)


def test_a_run_does_not_depend_on_the_hash_seed(tmp_path):  # P1
    for seed in (1, 2):
        run(tmp_path / str(seed), hash_seed=seed)
    assert_same_run(tmp_path / "1", tmp_path / "2")


def test_two_launched_processes_leave_one_run_that_resumes(tmp_path):  # P2
    said = run(tmp_path / "run", processes=2)
    assert said.count("report: sightline report") == 1
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "run", again)
    for later in ("checkpoint", "checkpoint-2", "checkpoint-3"):  # 1 is inside a rollout batch
        shutil.rmtree(again / later)
    run(again, 2, 0, "--resume_from_checkpoint", "newest")
    assert_same_run(tmp_path / "run", again)
