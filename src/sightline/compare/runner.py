"""Cells on processes of their own: each once, whatever is killed.

Workers share nothing but the suite's folder. Who holds the lock of a cell runs it; the system
drops the lock of a process that dies. A cell is finished when it has its `result.json`, written
last; what a killed one left is cleared away and the cell is run again.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

from .. import tasks
from ..process import use_threads
from ..records import append_lines, write_json
from ..warm_start import load_warm_model, warm_start_path
from .cell import Cell, run_cell
from .code import differing, versions
from .results import last_words
from .suite import Suite, parse_suite

POLL = 0.5  # seconds
PATIENCE = 3  # workers that may end before they have run a cell


def run_suite(
    suite: Suite,
    folder: Path,
    processes: int,
    say: Callable[[str], None] = print,
    known: Collection[Cell] = (),
) -> list[str]:
    """Run every cell of `suite` that is not finished in `folder`; return those that failed.

    A failure is recorded in the cell's `failure.json` and in `failures.jsonl`, the others go on;
    the next call tries it again.

    Args:
        processes: cells at a time.
        known: cells that need not be run, because what they gave is known from elsewhere.

    Raises:
        ValueError: `folder` holds cells of the same names that were run otherwise.
    """
    cells = [cell for cell in suite.cells() if cell not in known]
    check_finished(suite, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.yaml").write_text(suite.text, encoding="utf-8")
    left = [cell for cell in cells if not is_finished(folder / cell.name)]
    for cell in left:
        with _lock(_lock_of(cell, folder), take=False) as last:
            if last is not None and (folder / cell.name).exists():
                shutil.rmtree(folder / cell.name)  # of one that failed, or was killed
    say(f"{len(cells)} cells, {len(left)} to run, {processes} at a time, into {folder}")
    begun, total, strays = time.monotonic(), len(left), 0
    workers: list[BaseProcess] = []
    try:
        while left:
            for worker in [worker for worker in workers if worker.exitcode is not None]:
                workers.remove(worker)
                if worker.exitcode and not _record_death(left, folder, worker):
                    strays += 1
                    if strays > PATIENCE:
                        raise RuntimeError(
                            f"{strays} workers ended before they ran a cell, the last with exit "
                            f"code {worker.exitcode}: {folder / 'logs'} says why"
                        )
            settled = [cell for cell in left if _is_settled(folder / cell.name)]
            strays = 0 if settled else strays
            left = [cell for cell in left if cell not in settled]
            for cell in settled:
                so_far = (time.monotonic() - begun) / (total - len(left))
                say(
                    f"{len(cells) - len(left)}/{len(cells)}  {cell.name}  "
                    f"{_outcome(folder / cell.name)}  {so_far * len(left) / 60:.0f} min left"
                )
            while len(workers) < min(processes, len(left)):
                # spawned, each imports torch anew: a forked one would share its threads' locks
                worker = get_context("spawn").Process(
                    target=work, args=(suite.name, suite.text, folder, os.getpid(), set(known))
                )
                worker.start()
                workers.append(worker)
            time.sleep(POLL)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return [cell.name for cell in cells if not is_finished(folder / cell.name)]


def is_finished(folder: Path) -> bool:
    """Whether a cell has been run to its end."""
    return (folder / "result.json").exists()


def read_about(cell: Cell, suite: Suite, folder: Path) -> dict[str, Any]:
    """The `run.json` of a finished cell; raise where it was run by another protocol or rule."""
    path = folder / cell.name
    about = json.loads((path / "run.json").read_text(encoding="utf-8"))
    there = [about["protocol"], about["rule"]]
    wanted = [asdict(suite.protocol), repr(suite.rules[cell.rule])]
    if there != wanted:
        raise ValueError(
            f"{path} was run with another protocol or rule, {there[0]} and {there[1]}, "
            f"and the suite says {wanted[0]} and {wanted[1]}: give the suite it was run with, or "
            "choose another --output-dir to run this one"
        )
    return about


def check_finished(suite: Suite, folder: Path) -> None:
    """Raise where a finished cell of this name was run by another protocol, rule or version."""
    now = versions()
    for cell in suite.cells():
        path = folder / cell.name
        if not is_finished(path):
            continue
        there = read_about(cell, suite, folder)["versions"]
        if there != now:
            raise ValueError(
                f"{path} was run by other versions, {differing(there, now)}: "
                "remove it to run it again, or choose another --output-dir"
            )


def work(name: str, text: str, folder: Path, parent: int, known: Collection[Cell] = ()) -> None:
    """Run cells until all are run or somebody else's; what a worker process of `parent` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    _write_to(folder / "logs" / f"worker-{os.getpid()}.log")
    use_threads(1)  # for warm starts too, whose name and speed depend on it
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    suite = parse_suite(name, text)
    cells = [cell for cell in suite.cells() if cell not in known]
    while True:
        for cell in cells:
            if not _is_settled(folder / cell.name) and _run(cell, suite, folder):
                break  # from the front again: an earlier one may be free by now
        else:
            if all(_is_settled(folder / cell.name) for cell in cells):
                return
            time.sleep(POLL)


def _end_with(parent: int) -> None:
    """End this process when `parent` has ended, however: nobody waits for an orphan's cell."""
    while os.getppid() == parent:
        time.sleep(POLL)
    os._exit(1)


def _run(cell: Cell, suite: Suite, folder: Path) -> bool:
    """Run `cell`, unless somebody else does or is making its warm start; whether it was run."""
    path = folder / cell.name
    with _lock(_lock_of(cell, folder)) as last:
        if last is None or _is_settled(path):
            return False
        if path.exists() and last.startswith(f"{os.getppid()} "):
            _record_failure(folder, cell.name, "its process ended before it did")
            return True  # this one might end as well, and so on: the next call may try
        if path.exists():
            shutil.rmtree(path)  # of another command, which was killed
        path.mkdir(parents=True)
        try:
            if not _make_warm_start(cell, suite):
                path.rmdir()
                return False  # what needs another warm start comes first
            run_cell(cell, suite.rules[cell.rule], suite.protocol, path)
        except Exception:  # whatever a rule, a task or a library raises is this cell's result
            _record_failure(folder, cell.name, traceback.format_exc())
    return True


def _make_warm_start(cell: Cell, suite: Suite) -> bool:
    """See to it that the cell's starting weights exist; False where somebody is making them."""
    task, start = tasks.load(cell.task), suite.protocol.start(cell.seed)
    warm = warm_start_path(task, start)
    with _lock(warm.with_suffix(".lock")) as last:
        if warm.exists():
            return True
        if last is not None:
            load_warm_model(task, start, from_scratch=True)
        return last is not None


def _record_failure(folder: Path, name: str, reason: str) -> None:
    failure = {"cell": name, "time": time.strftime("%Y-%m-%dT%H:%M:%S"), "reason": reason}
    append_lines(folder / "failures.jsonl", [failure])
    (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / name / "failure.json", failure)


def _record_death(cells: Sequence[Cell], folder: Path, worker: BaseProcess) -> bool:
    """Record which cell a worker was at when it ended; False if it was at none."""
    reason = f"its process ended with exit code {worker.exitcode}"
    for cell in cells:
        path = folder / cell.name
        with _lock(_lock_of(cell, folder), take=False) as last:
            was_at_it = last == f"{os.getpid()} {worker.pid}"
            if was_at_it and path.exists() and not _is_settled(path):
                _record_failure(folder, cell.name, reason)
                return True
    return False


def _is_settled(path: Path) -> bool:
    return is_finished(path) or (path / "failure.json").exists()


def _outcome(path: Path) -> str:
    """In a few words, for the terminal."""
    failure = path / "failure.json"
    if failure.exists():
        reason = json.loads(failure.read_text(encoding="utf-8"))["reason"]
        return f"FAILED: {last_words(reason)[:100]}"
    points = json.loads((path / "result.json").read_text(encoding="utf-8"))["points"]
    first, last = points[0]["accuracy"], points[-1]["accuracy"]
    return f"{first:.1%} -> {last:.1%}"


def _lock_of(cell: Cell, folder: Path) -> Path:
    return folder / "locks" / cell.name.replace("/", "_")


@contextmanager
def _lock(path: Path, take: bool = True) -> Iterator[str | None]:
    """Hold the lock of `path` meanwhile, unless somebody does: nobody waits for it.

    Yields who took it last, process and its parent ("parent process"), or None if it is not held.

    Args:
        take: whether to be named as the last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        file.seek(0)
        last = file.read()
        if take:
            file.truncate(0)
            file.write(f"{os.getppid()} {os.getpid()}")
            file.flush()
        yield last


def _write_to(log: Path) -> None:
    """Send what this process and its libraries print to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
