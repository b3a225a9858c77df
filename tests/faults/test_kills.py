"""A run that is killed again and again, against one that is left alone."""

import copy
import os
import random
import shutil
import signal
import threading
import time
import warnings

import pytest
import torch
from test_resume import even_length, lines
from torch import multiprocessing
from tqdm import tqdm
from trl import GRPOConfig

from sightline import PGPO
from sightline.checkpoints import newest_whole
from sightline.engines.trl import PerceptionGRPOTrainer
from sightline.tasks import digits

KILLS = int(os.environ.get("SIGHTLINE_KILLS", "20"))  # `make faults` asks for 100
STEPS = 6


def train(tiny, folder):
    """Train to the end, from the newest checkpoint if there is one, and leave the weights."""
    warnings.simplefilter("ignore")  # of damaged checkpoints
    # by default it is one of all forked processes, and who is killed with it keeps it
    tqdm.set_lock(threading.RLock())
    checkpoint = newest(folder)
    if checkpoint is None:
        shutil.rmtree(folder, ignore_errors=True)
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
    trainer.train(checkpoint and str(checkpoint))
    torch.save(trainer.model.state_dict(), folder / "draft.pt")
    os.replace(folder / "draft.pt", folder / "end.pt")


def steps(folder, name):
    """Without the last line of a run, which a kill after the last step leaves out."""
    return [line for line in lines(folder, name) if "reward" in line]


def newest(folder):
    """The newest whole checkpoint, or None."""
    try:
        return newest_whole(folder)
    except FileNotFoundError:
        return None


def ran(tiny, folder, seconds=None):
    """Train in a process of its own, killed after so many seconds; whether it was."""
    child = multiprocessing.get_context("fork").Process(target=train, args=(tiny, folder))
    child.start()
    child.join(seconds)
    killed = child.is_alive()
    if killed:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return killed


@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:checkpoint passed over")
def test_killed_at_random_moments_it_ends_as_if_left_alone(tiny, tmp_path):  # P2
    # here, and not in a process of its own: what training imports late, no child then has to
    with warnings.catch_warnings():
        train(tiny, tmp_path / "calm")
    expected = torch.load(tmp_path / "calm" / "end.pt")
    begun = time.monotonic()
    assert not ran(tiny, tmp_path / "killed-0")  # nor is this one, which says how long a run takes
    whole = time.monotonic() - begun
    kills, rounds, generator = 0, 0, random.Random(0)
    while kills < KILLS or rounds == 0:
        folder, rounds = tmp_path / f"killed-{rounds}", rounds + 1
        while not (folder / "end.pt").exists():
            done = newest(folder)
            # of a run that is nearly over little is left to be killed in, but for its start
            left = (STEPS + 1 - int(done.name.split("-")[1] if done else 0)) / STEPS
            # the last is let be
            kills += ran(
                tiny, folder, generator.uniform(0, whole * left) if kills < KILLS else None
            )
        found = torch.load(folder / "end.pt")
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        for name in ("metrics.jsonl", "tokens.jsonl"):
            assert steps(folder, name) == steps(tmp_path / "calm", name)
        shutil.rmtree(folder)
    print(f"{kills} kills in {rounds} runs of {STEPS} steps, 0 differ")
