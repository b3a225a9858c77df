"""Rewards that hang in four ways, again and again: the pool stays what it was."""

import os
import time

import pytest
import reward_plugins

from sightline.rewards import Workers

HANGS = int(os.environ.get("SIGHTLINE_HANGS", "8"))  # `make faults` asks for 1,000
DEADLINE = 0.1


def children(pid):
    """Zombies are among them."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def wait_until(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.timeout(1800)
def test_after_every_hang_the_pool_is_what_it_was():
    workers = Workers("reward_plugins", "by_name", deadline=DEADLINE, count=4)
    good = {"completions": ["good"], "answer": ["1"]}
    assert workers.run([good])[0].number == 1.0
    nursery = workers._close.peek()[2][1].pid
    wait_until(lambda: not children(nursery))
    descriptors = len(os.listdir(f"/proc/{nursery}/fd"))
    hangs, slowest = 0, 0.0
    for first in range(0, HANGS, 8):
        names = [reward_plugins.HANGS[n % 4] for n in range(first, min(first + 8, HANGS))]
        started = time.monotonic()
        outcomes = workers.run([{"completions": [name], "answer": ["1"]} for name in names])
        # each of the four workers may have had two, one after the other
        slowest = max(slowest, (time.monotonic() - started) / 2)
        assert [outcome.kind for outcome in outcomes] == ["timed_out"] * len(names)
        hangs += len(names)
    assert slowest < DEADLINE + 1
    # the same process, with nothing left in it, and four workers at once again
    assert workers._close.peek()[2][1].pid == nursery
    wait_until(lambda: not children(nursery))
    assert len(os.listdir(f"/proc/{nursery}/fd")) == descriptors
    assert workers.run([good])[0].number == 1.0
    workers.close()
    print(f"{hangs} hangs, slowest {slowest:.2f} s at a deadline of {DEADLINE} s, none left")
