"""Processes that are killed at their deadline, and that end with the trainer, however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import reward_plugins

from sightline.rewards import Workers

HERE = os.path.dirname(reward_plugins.__file__)


def rows(*names):
    return [{"completions": [name], "answer": ["1"]} for name in names]


def pid_of(workers):
    alive = workers._close.peek()
    return alive and alive[2][1].pid


def pids_below(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def wait_until(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_hang_costs_its_deadline_and_no_more():
    workers = Workers("reward_plugins", "by_name", deadline=0.5, count=2)
    workers.run(rows("good"))
    started = time.monotonic()
    outcomes = workers.run(rows(*reward_plugins.HANGS[:2], *["good"] * 8))
    assert time.monotonic() - started < 1.5
    assert [outcome.kind for outcome in outcomes] == ["timed_out"] * 2 + ["number"] * 8
    assert outcomes[0].message == "no result in 0.5 s"
    workers.close()


def test_an_interrupted_run_leaves_nothing_for_the_next():
    workers = Workers("reward_plugins", "by_name", deadline=2.0, count=1)
    workers.run(rows("good"))

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.run(rows(*["slow"] * 4))
    finally:
        signal.signal(signal.SIGALRM, before)
    outcomes = workers.run(rows("good", "raise", "good"))
    assert [outcome.kind for outcome in outcomes] == ["number", "raised", "number"]
    workers.close()


def test_a_nursery_that_is_killed_or_stopped_is_replaced():
    workers = Workers("reward_plugins", "by_name", deadline=0.2)
    workers.run(rows("good"))
    os.kill(pid_of(workers), signal.SIGKILL)
    assert [outcome.number for outcome in workers.run(rows("good", "good"))] == [1.0, 1.0]
    workers.close()
    workers.close()
    assert workers.run(rows("good"))[0].number == 1.0
    workers.close()


def test_workers_end_with_a_nursery_that_is_killed():
    workers, outcomes = Workers("reward_plugins", "by_name", deadline=600.0), []
    thread = threading.Thread(target=lambda: outcomes.extend(workers.run(rows("spin"))))
    workers.start()
    thread.start()
    for _ in range(2):  # the task is tried once more
        wait_until(lambda: workers._close.alive and pids_below(pid_of(workers)))
        nursery = pid_of(workers)
        (worker,) = pids_below(nursery)
        os.kill(nursery, signal.SIGKILL)
        wait_until(lambda worker=worker: not os.path.exists(f"/proc/{worker}/exe"))
        wait_until(lambda nursery=nursery: outcomes or pid_of(workers) != nursery)
    thread.join(5)
    assert (outcomes[0].kind, outcomes[0].message) == (
        "died",
        "the process of the workers was lost twice",
    )


def test_workers_end_when_the_trainer_is_killed():
    # the trainer of this test hangs in a reward when it is killed
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        "import types\n"
        "package = types.ModuleType('rewards'); package.__path__ = [sys.argv[2]]\n"
        "sys.modules['rewards'] = package\n"  # without torch, which takes seconds to import
        "from rewards.workers import Workers\n"
        "workers = Workers('reward_plugins', 'by_name', deadline=600)\n"
        "workers.run([{'completions': ['good'], 'answer': ['1']}])\n"
        "print(workers._close.peek()[2][1].pid, flush=True)\n"
        "workers.run([{'completions': [n], 'answer': ['1']} for n in ('spin', 'ignore')])\n"
    )
    source = os.path.dirname(sys.modules[Workers.__module__].__file__)
    with subprocess.Popen(
        [sys.executable, "-c", script, HERE, source], stdout=subprocess.PIPE, text=True
    ) as trainer:
        nursery = int(trainer.stdout.readline())
        wait_until(lambda: len(pids_below(nursery)) == 2)
        pids = [nursery, *pids_below(nursery)]
        trainer.kill()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))


def test_what_cannot_be_imported_is_said():
    with pytest.raises(ImportError, match=r"no_such_module\.f cannot be imported in a worker: Mod"):
        Workers("no_such_module", "f").run(rows("good"))


@pytest.mark.parametrize("setting", [{"count": 0}, {"deadline": 0.0}, {"memory": 0}])
def test_wrong_settings_are_refused(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=name):
        Workers("reward_plugins", "by_name", **setting)
