"""Checkpoints of a real run under every harm that can be done to them, and to their making."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_resume import make  # noqa: F401
from torch import multiprocessing

from sightline.checkpoints import MANIFEST, _describe, damage, newest_whole

ALL = "SIGHTLINE_KILLS" in os.environ  # `make faults` asks for every case
# what Python tells its audit hooks of each step that changes a disk
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


@pytest.fixture
def two_checkpoints(make, tmp_path):  # noqa: F811
    """A run with whole checkpoints at steps 1 and 2, one inside a rollout batch."""
    make(max_steps=2, steps_per_generation=2, gradient_accumulation_steps=1).train()
    return tmp_path / "run"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def test_any_harm_to_any_file_is_named_and_the_one_before_taken(two_checkpoints):  # P3
    newest, before = two_checkpoints / "checkpoint-2", two_checkpoints / "checkpoint-1"
    files = [path for path in newest.rglob("*") if path.is_file()]
    # weights, optimizer, scheduler, generators, trainer, rollout, manifest, and what loads a model
    assert len(files) >= 10
    for path in files:
        content = path.read_bytes()
        for harm in (flip, cut, Path.unlink):
            harm(path)
            # a manifest that was changed may accuse another file
            name = "" if path.name == MANIFEST else path.name
            with pytest.warns(UserWarning, match=rf"passed over: .*checkpoint-2.*{name}"):
                assert newest_whole(two_checkpoints) == before
            path.write_bytes(content)
    assert damage(newest) is None
    print(f"{len(files)} files x 3 harms, all named")


class Payload:
    """What unpickling would run."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


READ = {  # when a run goes on; the others, so that the checkpoint loads as a model
    "config.json",
    "model.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "rollout-0.json",
    "rollout-0.safetensors",
    "scheduler.pt",
    "settings.json",
    "trainer_state.json",
}


def test_nothing_in_a_checkpoint_is_ever_run(make, two_checkpoints, tmp_path):  # P6  # noqa: F811
    checkpoint, marker = two_checkpoints / "checkpoint-1", tmp_path / "was run"
    pickle.loads(pickle.dumps(Payload(marker)))
    marker.unlink()  # the payload works
    refused = []
    files = {path.name for path in checkpoint.iterdir()} - {MANIFEST} if ALL else READ
    for path in sorted(checkpoint / name for name in files):
        content, manifest = path.read_bytes(), (checkpoint / MANIFEST).read_text()
        path.write_bytes(pickle.dumps(Payload(marker), protocol=2))  # as torch writes it
        listed = json.loads(manifest)
        listed["files"][path.name] = _describe(path)  # whoever harms a file can describe it too
        (checkpoint / MANIFEST).write_text(json.dumps(listed))
        trainer = make(
            "next", other=True, max_steps=2, steps_per_generation=2, gradient_accumulation_steps=1
        )
        try:
            trainer.train(str(checkpoint))
        except (ValueError, OSError):
            refused.append(path.name)
        assert not marker.exists(), path.name
        path.write_bytes(content)
        (checkpoint / MANIFEST).write_text(manifest)
    assert set(refused) == READ


def save(trainer, kill_at):
    """Save a checkpoint, and die where the disk is about to change for the `kill_at`th time."""
    count = 0

    def watch(event, args):
        nonlocal count
        if event in CHANGES and str(trainer.run_folder) in str(args[0]):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    trainer._save_checkpoint(trainer.model, None)


@pytest.mark.timeout(1800)
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(make, tmp_path):  # P3  # noqa: F811
    trainer = make(max_steps=1, save_total_limit=1)
    trainer.train()
    run, start = tmp_path / "run", multiprocessing.get_context("fork").Process
    found, moment, code = [], 1, -signal.SIGKILL
    while code == -signal.SIGKILL:
        trainer.state.global_step = 2
        child = start(target=save, args=(trainer, moment))
        child.start()
        child.join()
        code = child.exitcode
        found.append(newest_whole(run).name)  # no warning: the newest by name is always whole
        if found[-1] == "checkpoint-2":  # back to where we were
            trainer.state.global_step = 1
            trainer._save_checkpoint(trainer.model, None)
            shutil.rmtree(run / "checkpoint-2")
        moment += 1 if ALL else 7
    assert code == 0
    # the first dies at once; the last ones die, or end, with the old one being removed
    assert found[0] == "checkpoint-1" and found[-1] == "checkpoint-2"
    assert found == sorted(found)
    print(f"{moment - 1} moments of a save, a whole checkpoint at each")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_costs_nothing_but_the_save(make, small_disk):  # noqa: F811
    trainer = make(small_disk / "run", max_steps=1)
    trainer.train()
    run, filler = trainer.run_folder, small_disk / "filler"
    size = sum(p.stat().st_size for p in (run / "checkpoint-1").iterdir())
    times = 20 if ALL else 3
    for k in range(times):
        room = size * k // times
        free = shutil.disk_usage(small_disk).free
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - room)
        trainer.state.global_step = 2
        with pytest.raises(OSError, match=r"checkpoint-2 could not be saved .* MiB free there"):
            trainer._save_checkpoint(trainer.model, None)
        assert sorted(p.name for p in run.glob("checkpoint*")) == ["checkpoint-1"]
        assert damage(run / "checkpoint-1") is None
        filler.unlink()
    trainer._save_checkpoint(trainer.model, None)  # there is room again
    assert newest_whole(run).name == "checkpoint-2"
    print(f"{times} sizes of a full disk, the checkpoint before whole each time")
