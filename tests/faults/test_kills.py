"""A run that is killed again and again, against one that is left alone."""

import copy
import os
import random
import shutil
import signal
import time
import warnings

import pytest
import torch
from test_resume import even_length, lines
from torch import multiprocessing
from trl import GRPOConfig

from sightline import PGPO
from sightline.checkpoints import newest_whole
from sightline.engines.trl import PerceptionGRPOTrainer
from sightline.tasks import digits

KILLS = int(os.environ.get("SIGHTLINE_KILLS", "4"))  # `make faults` asks for 100
STEPS = 6


def train(tiny, folder):
    """Train to the end, from the newest checkpoint if there is one, and leave the weights."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of damaged checkpoints
    try:
        checkpoint = str(newest_whole(folder))
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
        checkpoint = None
    trainer = PerceptionGRPOTrainer(
        model=copy.deepcopy(tiny.model),
        processing_class=tiny.processor,
        algorithm=PGPO(),
        reward_funcs=even_length,
        train_dataset=digits.rows(5, seed=1),
        args=GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            num_generations=4,
            steps_per_generation=2,
            gradient_accumulation_steps=1,
            max_completion_length=4,
            max_steps=STEPS,
            learning_rate=1e-3,
            logging_steps=3,
            save_steps=1,
            save_total_limit=2,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
    )
    trainer.train(checkpoint)
    torch.save(trainer.model.state_dict(), folder / "draft.pt")
    os.replace(folder / "draft.pt", folder / "end.pt")


def steps(folder, name):
    """Without the last line of a run, which a kill after the last step leaves out."""
    return [line for line in lines(folder, name) if "reward" in line]


@pytest.mark.timeout(1800)
def test_killed_at_random_moments_it_ends_as_if_left_alone(tiny, tmp_path):  # P2
    # forked, for importing everything anew takes longer than training
    start = multiprocessing.get_context("fork").Process
    begun = time.monotonic()
    calm = start(target=train, args=(tiny, tmp_path / "calm"))
    calm.start()
    calm.join()
    whole = time.monotonic() - begun
    expected = torch.load(tmp_path / "calm" / "end.pt")
    kills, rounds, generator = 0, 0, random.Random(0)
    while kills < KILLS:
        folder, rounds = tmp_path / f"killed-{rounds}", rounds + 1
        while not (folder / "end.pt").exists():
            child = start(target=train, args=(tiny, folder))
            child.start()
            # the last is let be
            child.join(generator.uniform(0, whole) if kills < KILLS else None)
            if child.is_alive():
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
            child.join()
            assert child.exitcode in (0, -signal.SIGKILL)
        found = torch.load(folder / "end.pt")
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        for name in ("metrics.jsonl", "tokens.jsonl"):
            assert steps(folder, name) == steps(tmp_path / "calm", name)
        shutil.rmtree(folder)
    print(f"{kills} kills in {rounds} runs of {STEPS} steps, 0 differ")
