"""Reward functions that do what none should; workers import them from here by name."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time


def length(completions, **columns):
    return [float(len(completion)) for completion in completions]


def by_name(completions, answer, **columns):
    """Misbehaves as the completion says."""
    return [BEHAVIOURS[completions[0]](answer[0])]


def two_rewards(completions, **columns):
    return [1.0, 2.0]


def bare_number(completions, **columns):
    return 1.0


def fail(answer):
    raise KeyError(answer)


def leave(answer):
    sys.exit(0)


def exit_at_once(answer):
    os._exit(3)


def crash(answer):
    ctypes.string_at(0)


def leak(answer):
    hoard = []
    while True:
        hoard.append(bytearray(2**26))


def print_much(answer):
    print("\0" * 1000, file=sys.stdout)
    os.write(1, b"\xff" * 1000)
    return 1.0


def fork_and_return(answer):
    """Both processes come back with a reward, the new one while the next row is being judged."""
    if os.fork() == 0:
        time.sleep(0.05)
    return 1.0


def take_time(answer):
    time.sleep(0.2)
    return 1.0


def leave_a_process(answer):
    """In a session of its own, where its worker's end does not reach it; writes its number."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    with open(answer, "w") as file:
        file.write(str(process.pid))
    return 1.0


def spin(answer):
    while True:
        pass


def hold_the_lock(answer):
    """A C call that does not return, nor lets another thread of its process run."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def sleep(answer):
    time.sleep(600)


def ignore_signals(answer):
    for number in range(1, 32):
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:
            pass  # SIGKILL and SIGSTOP
    time.sleep(600)


BEHAVIOURS = {
    "good": float,
    "none": lambda answer: None,
    "text": lambda answer: "1.0",
    "nan": lambda answer: float("nan"),
    "infinite": lambda answer: float("inf"),
    "fail": fail,
    "leave": leave,
    "exit": exit_at_once,
    "crash": crash,
    "leak": leak,
    "print": print_much,
    "fork": fork_and_return,
    "slow": take_time,
    "process": leave_a_process,
    "spin": spin,
    "lock": hold_the_lock,
    "sleep": sleep,
    "ignore": ignore_signals,
}
HANGS = ("spin", "lock", "sleep", "ignore")
