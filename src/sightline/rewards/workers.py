"""Worker processes that may be killed at any time, and what the trainer has of them.

The trainer holds torch, a GPU and hours of work, so nothing that a model or a user wrote is
decided in it where it could hang or crash: it goes to the workers of `nursery.py`.
"""

import json
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .nursery import RECORD, SIZE

START_SECONDS = 300.0  # an import may be slow, a deadline is not meant for it
LOST_SECONDS = 5.0  # past a deadline, at which the nursery itself must be hanging


class Outcome(NamedTuple):
    """What became of a task.

    Args:
        kind: "number", or why there is none: "none", "not_a_number", "not_finite",
            "wrong_length", "raised", "timed_out", "died".
        number: what the function returned; NaN where it returned none.
        message: what the error said, or the worker's end.
    """

    kind: str
    number: float
    message: str


class Workers:
    """A few processes that run one function under a deadline.

    They start at the first `run` (or by `start`), and end with this object, with the interpreter,
    or when the trainer is killed. No worker outlives a deadline: it is killed by SIGKILL together
    with what it forked, and a fresh one takes its place.

    Args:
        module: where the function is, as it is imported.
        name: of the function; it is called with the columns of one row, each a list of one, and
            returns a list of one reward, as TRL's reward functions do.
        file: of the module, where it is to be loaded without the package around it.
        count: workers at a time.
        deadline: seconds per task.
        memory: bytes that a worker may take.
        tasks_per_worker: after which a fresh one takes its place.
    """

    def __init__(
        self,
        module: str,
        name: str,
        *,
        file: Path | None = None,
        count: int = 2,
        deadline: float = 2.0,
        memory: int = 2**30,
        tasks_per_worker: int = 64,
    ):
        if not (math.isfinite(deadline) and deadline > 0):
            raise ValueError(f"deadline must be positive seconds, got {deadline}")
        for what, value in {
            "count": count,
            "memory": memory,
            "tasks_per_worker": tasks_per_worker,
        }.items():
            if value < 1:
                raise ValueError(f"{what} must be at least 1, got {value}")
        self.deadline = deadline
        self._function = module, file and str(file), name
        self._limits = {
            "count": count,
            "deadline": deadline,
            "memory": memory,
            "tasks_per_child": tasks_per_worker,
        }
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._ready = False
        self._owner = 0
        self._close: Any = None

    def run(self, tasks: Sequence[Mapping[str, list]]) -> list[Outcome]:
        """What becomes of each task, whatever becomes of the workers.

        Raises:
            ImportError: the function could not be imported in the workers' process.
        """
        outcomes: dict[int, Outcome] = {}
        with self._lock:
            payloads = [pickle.dumps(dict(task)) for task in tasks]
            for _ in range(2):  # the nursery may be lost, to the system's lack of memory say
                left = [index for index in range(len(tasks)) if index not in outcomes]
                if not left:
                    break
                try:
                    self._exchange(left, payloads, outcomes)
                except OSError:
                    self.close()
                except BaseException:  # interrupted: what is still to come must reach nobody
                    self.close()
                    raise
        lost = Outcome("died", math.nan, "the process of the workers was lost twice")
        return [outcomes.get(index, lost) for index in range(len(tasks))]

    def start(self) -> None:
        """Begin to import the function, so that the first `run` need not wait for it."""
        if self._socket is not None and self._owner == os.getpid():
            return
        ours, theirs = socket.socketpair()
        # A script by its path, -P so that its folder is not searched for modules.
        command = [sys.executable, "-P", "-u", str(Path(__file__).with_name("nursery.py"))]
        process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a reward prints must not mix with what the trainer writes
            start_new_session=True,  # Ctrl-C is for the trainer, which then ends its workers
        )
        theirs.close()
        self._socket, self._owner, self._ready = ours, os.getpid(), False
        self._close = weakref.finalize(self, _end, ours, process, self._owner)
        ours.settimeout(START_SECONDS)
        settings = {"function": self._function, "limits": self._limits, "path": sys.path}
        self._send(json.dumps(settings).encode())

    def close(self) -> None:
        """End the workers; the next `run` starts others."""
        if self._close is not None:
            self._close()
        self._socket = None

    def _exchange(
        self, left: list[int], payloads: list[bytes], outcomes: dict[int, Outcome]
    ) -> None:
        """Have the tasks in `left` done; OSError if the nursery is lost."""
        self.start()
        assert self._socket is not None
        self._socket.settimeout(START_SECONDS)
        if not self._ready:
            _, kind, _, message = self._receive()
            if kind != "ready":
                self.close()
                module, _, name = self._function
                raise ImportError(f"{module}.{name} cannot be imported in a worker: {message}")
            self._ready = True
        self._send(pickle.dumps([payloads[index] for index in left]))
        self._socket.settimeout(self.deadline + LOST_SECONDS)
        for _ in left:
            index, kind, number, message = self._receive()
            outcomes[left[index]] = Outcome(kind, number, message)

    def _send(self, content: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(SIZE.pack(len(content)) + content)

    def _receive(self) -> tuple[int, str, float, str]:
        """One record of the nursery, which are never pickles."""
        assert self._socket is not None
        said = bytearray()
        while len(said) < RECORD.size:
            part = self._socket.recv(RECORD.size - len(said))
            if not part:
                raise ConnectionError("the process of the workers has ended")
            said += part
        index, kind, number, message = RECORD.unpack(said)
        text = message.rstrip(b"\0").decode(errors="replace")
        return index, kind.rstrip(b"\0").decode(errors="replace"), number, text


def _end(connection: socket.socket, process: subprocess.Popen, owner: int) -> None:
    """Close the nursery's socket, at which it ends its workers and itself."""
    connection.close()
    if os.getpid() != owner:  # a fork of the trainer has no say in it
        return
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
