"""A long run must not grow: `make soak`."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_resume import make  # noqa: F401
from transformers import TrainerCallback

STEPS = int(os.environ.get("SIGHTLINE_SOAK", "0"))
SETTLED = 100  # steps until caches, pools and the allocator have found their size
PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch(TrainerCallback):
    """Memory in MiB and open files after every step."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, **kwargs):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.seen.append((pages * PAGE / 2**20, len(os.listdir("/proc/self/fd"))))


@pytest.mark.skipif(not STEPS, reason="takes minutes: make soak")
@pytest.mark.timeout(3600)
def test_memory_and_open_files_do_not_grow(make):  # noqa: F811
    trainer = make(rows=50, max_steps=STEPS, save_steps=50, save_total_limit=2, logging_steps=1)
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    memory, files = np.array(watch.seen[SETTLED:]).T
    slope = 100 * np.polyfit(np.arange(len(memory)), memory, 1)[0]
    print(
        f"{STEPS} steps: {slope:+.2f} MiB per 100 steps ({memory[0]:.0f} -> {memory[-1]:.0f} MiB), "
        f"{files[0]:.0f} -> {files[-1]:.0f} open files"
    )
    assert slope < 1
    assert files[-1] <= files[0]
