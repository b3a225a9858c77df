"""A run that is killed again and again, against one that is left alone."""

import copy
import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_resume import even_length, lines
from torch import multiprocessing
from tqdm import tqdm
from trl import GRPOConfig

from sightline import PGPO, tiny_vlm
from sightline.checkpoints import newest_whole
from sightline.engines.trl import PerceptionGRPOTrainer
from sightline.tasks import digits

KILLS = int(os.environ.get("SIGHTLINE_KILLS", "5"))  # `make faults` asks for 100
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


def tiny():
    processor = tiny_vlm.build_processor(digits.corpus())
    return SimpleNamespace(model=tiny_vlm.build_model(processor).eval(), processor=processor)


def assert_same(run, other):
    """Weights and logs are the same to the bit."""
    one, two = (torch.load(folder / "end.pt") for folder in (run, other))
    assert all(torch.equal(one[name], value) for name, value in two.items())
    for name in ("metrics.jsonl", "tokens.jsonl"):
        assert steps(run, name) == steps(other, name)


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
def test_killed_at_random_moments_it_ends_as_if_left_alone(tmp_path):  # P2
    # in a process that holds nothing else: one that has run a thousand tests is slow to fork
    judge = subprocess.run(
        [sys.executable, __file__, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
    )
    assert judge.returncode == 0, judge.stderr[-2000:]
    print(judge.stdout.splitlines()[-1])

    # and here, where strings have another hash: P1
    assert os.environ.get("PYTHONHASHSEED") != "1"
    with warnings.catch_warnings():
        train(tiny(), tmp_path / "here")
    assert_same(tmp_path / "here", tmp_path / "calm")


def kill_and_compare(folder):
    """Kill runs until `KILLS` were killed; each must end as the one that is left alone."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of damaged checkpoints
    # here, and not in a process of its own: what training imports late, no child then has to
    start = tiny()
    train(start, folder / "calm")
    gc.collect()
    gc.freeze()  # of what was imported: children would look through it, and so copy it
    begun = time.monotonic()
    assert not ran(start, folder / "killed-0")  # nor is this one, which says how long a run takes
    whole = time.monotonic() - begun
    kills, rounds, generator = 0, 0, random.Random(0)
    while kills < KILLS or rounds == 0:
        killed, rounds = folder / f"killed-{rounds}", rounds + 1
        while not (killed / "end.pt").exists():
            done = newest(killed)
            # of a run that is nearly over little is left to be killed in, but for its start
            left = (STEPS + 1 - int(done.name.split("-")[1] if done else 0)) / STEPS
            # the last is let be
            kills += ran(
                start, killed, generator.uniform(0, 0.7 * whole * left) if kills < KILLS else None
            )
        assert_same(killed, folder / "calm")
        shutil.rmtree(killed)
    print(f"{kills} kills in {rounds} runs of {STEPS} steps, 0 differ", flush=True)


if __name__ == "__main__":
    kill_and_compare(Path(sys.argv[1]))
