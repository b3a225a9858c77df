"""The process in which rewards run that may hang, crash, leak or fork.

Started as a script, with a socket to the trainer, and made of the standard library alone: it takes
milliseconds to be there and never sees torch or the trainer's memory. It imports one function,
once, and forks a child for every few tasks, so that a fresh worker costs a fork and no import. A
child that misses its deadline is killed; the tasks it had left go to another.

What a child says is a record of fixed size and never a pickle: a child cannot make the trainer run
anything. Tasks are pickles, made by the trainer.
"""

import ctypes
import importlib
import importlib.util
import json
import math
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

SIZE = struct.Struct("<Q")
RECORD = struct.Struct("<I16sd400s")  # index of the task, kind, number, message; one atomic write
READY = 2**32 - 1  # the index that says whether the function could be imported
PARENT_DEATH_SIGNAL, CHILD_SUBREAPER = 1, 36  # of Linux's prctl


@dataclass
class Child:
    """A worker, the tasks it has left and the moment at which the first of them is overdue."""

    pid: int
    tasks: deque[int]
    due: float


def record(index: int, kind: str, number: float = math.nan, message: str = "") -> bytes:
    """A result as bytes; the message is cut to what fits."""
    return RECORD.pack(index, kind.encode(), number, message.encode(errors="replace")[:400])


def judged(result: Any) -> tuple[str, float, str]:
    """Kind, number and message for what a reward function returned for one row."""
    try:
        values = list(result)
    except TypeError:
        return "wrong_length", math.nan, f"{type(result).__name__} returned, not a list of 1"
    if len(values) != 1:
        return "wrong_length", math.nan, f"{len(values)} rewards for 1 row"
    if values[0] is None:
        return "none", math.nan, ""
    if not hasattr(values[0], "__float__"):  # a str has none: no text is ever read as a reward
        return "not_a_number", math.nan, f"a {type(values[0]).__name__}"
    number = float(values[0])
    return ("number" if math.isfinite(number) else "not_finite"), number, f"{number}"


def control(option: int, value: int) -> None:
    """Linux's prctl; other systems have the closed socket alone to end workers by."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Nursery:
    """Runs batches of tasks in forked children.

    Args:
        function: called with the columns of one row, each a list of one; returns a list of one.
        count: children at a time.
        deadline: seconds per task.
        memory: bytes that a child may add to what this process has.
        tasks_per_child: after which a child makes room for a fresh one.
    """

    def __init__(
        self,
        trainer: socket.socket,
        function: Callable[..., Any],
        count: int,
        deadline: float,
        memory: int,
        tasks_per_child: int,
    ):
        self.trainer, self.function = trainer, function
        self.count, self.deadline, self.memory = count, deadline, memory
        self.tasks_per_child = tasks_per_child
        self.children: dict[int, Child] = {}  # by the pipe that it writes to

    def run(self, tasks: list[bytes]) -> None:
        """Send the trainer one record for each task, in the order in which they are done."""
        waiting = deque(range(len(tasks)))
        while waiting or self.children:
            while waiting and len(self.children) < self.count:
                share = min(self.tasks_per_child, math.ceil(len(waiting) / self.count))
                self.fork(tasks, deque(waiting.popleft() for _ in range(share)))
            soonest = min(child.due for child in self.children.values())
            ready, _, _ = select.select(
                [self.trainer, *self.children], [], [], max(0.0, soonest - monotonic())
            )
            if self.trainer in ready:  # it speaks only between batches: it is gone
                raise EOFError
            for pipe in [pipe for pipe in self.children if pipe in ready]:
                self.hear(pipe, waiting)
            for pipe, child in list(self.children.items()):
                if monotonic() >= child.due:
                    self.fail(pipe, waiting, "timed_out", f"no result in {self.deadline:g} s")
        end_strays()

    def fork(self, tasks: list[bytes], indices: deque[int]) -> None:
        """Start a child on some of the tasks."""
        pipe, inner = os.pipe()
        nursery, pid = os.getpid(), os.fork()
        if pid == 0:
            self.work(tasks, indices, inner, nursery)
        os.close(inner)
        try:
            os.setpgid(pid, pid)  # in both processes, for either may come first
        except OSError:
            pass  # it has come and gone
        self.children[pipe] = Child(pid, indices, monotonic() + self.deadline)

    def work(self, tasks: list[bytes], indices: deque[int], pipe: int, nursery: int) -> None:
        """What a child does; it never returns."""
        own = os.getpid()
        try:
            os.setpgid(0, 0)  # what it forks is killed with it
            control(PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() != nursery:
                return  # it ended before that could be asked for
            self.trainer.close()
            for other in self.children:
                os.close(other)
            limit_memory(self.memory)
            for index in indices:
                try:
                    outcome = judged(self.function(**pickle.loads(tasks[index])))
                # whatever a reward raises, SystemExit too, is a result for its row
                except BaseException as error:
                    outcome = "raised", math.nan, f"{type(error).__name__}: {error}"
                if os.getpid() != own:
                    break  # a process that the reward forked came back in its place
                os.write(pipe, record(index, *outcome))
        finally:
            os._exit(0)

    def hear(self, pipe: int, waiting: deque[int]) -> None:
        """Pass a child's record on; one that broke off has failed."""
        child = self.children[pipe]
        said = os.read(pipe, RECORD.size)
        if len(said) != RECORD.size or RECORD.unpack(said)[0] != child.tasks[0]:
            self.fail(pipe, waiting, "died", "")
            return
        child.tasks.popleft()
        child.due = monotonic() + self.deadline
        self.trainer.sendall(said)
        if not child.tasks:
            self.end(pipe)

    def fail(self, pipe: int, waiting: deque[int], kind: str, message: str) -> None:
        """Kill a child; the task at hand has failed, its others are the next to be done."""
        tasks = self.children[pipe].tasks
        status = self.end(pipe, patience=0.1 if kind == "died" else 0.0)
        self.trainer.sendall(record(tasks.popleft(), kind, message=message or how_it_ended(status)))
        waiting.extendleft(reversed(tasks))

    def end(self, pipe: int, patience: float = 0.0) -> int:
        """Kill a child and what it forked, and reap it.

        Args:
            patience: seconds for a child that is about to exit, so that its own status is seen.

        Returns:
            Its exit status, as `waitpid` gives it.
        """
        os.close(pipe)
        pid = self.children.pop(pipe).pid
        until, look = monotonic() + patience, os.WEXITED | os.WNOHANG | os.WNOWAIT
        while monotonic() < until and os.waitid(os.P_PID, pid, look) is None:
            sleep(0.002)
        for kill in (os.killpg, os.kill):
            try:
                kill(pid, signal.SIGKILL)
            except OSError:
                pass  # nothing left to kill
        return os.waitpid(pid, 0)[1]


def how_it_ended(status: int) -> str:
    """A child's exit status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def limit_memory(room: int) -> None:
    """Let this process have at most `room` bytes more than it has, and leave no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # others do not hold to RLIMIT_AS
        with open("/proc/self/statm") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def end_strays() -> None:
    """Kill and reap what a task left behind in a session of its own: it is our child now."""
    path = f"/proc/self/task/{os.getpid()}/children"
    while os.path.exists(path):
        with open(path) as file:
            strays = [int(pid) for pid in file.read().split()]
        if not strays:
            return
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def load(module: str, file: str | None, name: str) -> Callable[..., Any]:
    """A function by its module, or by the module's file where its package is not to be imported."""
    if file is None:
        return getattr(importlib.import_module(module), name)
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return getattr(loaded, name)


def read(trainer: socket.socket) -> bytes:
    """What the trainer sends next, led by its length; EOFError when it has gone."""
    return _exactly(trainer, SIZE.unpack(_exactly(trainer, SIZE.size))[0])


def _exactly(trainer: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = trainer.recv(min(size - len(parts), 2**20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def main() -> None:
    """Import the function, say so, run batches until the trainer goes."""
    trainer = socket.socket(fileno=int(sys.argv[1]))
    trainer.set_inheritable(False)
    control(CHILD_SUBREAPER, 1)
    nursery = None
    try:
        settings = json.loads(read(trainer))
        sys.path[:] = settings["path"]
        try:
            function = load(*settings["function"])
        # whatever an import raises is for the user to read, in the trainer
        except BaseException as error:
            trainer.sendall(record(READY, "failed", message=f"{type(error).__name__}: {error}"))
            return
        trainer.sendall(record(READY, "ready"))
        nursery = Nursery(trainer, function, **settings["limits"])
        while True:
            nursery.run(pickle.loads(read(trainer)))
    except (EOFError, ConnectionError):  # the trainer has gone, perhaps by SIGKILL
        pass
    finally:
        if nursery:
            for pipe in list(nursery.children):
                nursery.end(pipe)
        end_strays()


if __name__ == "__main__":
    main()
