"""Reward functions of the user's own, run where they can do no harm; and rewards mixed into one."""

import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .verdict import log
from .workers import Outcome, Workers

KINDS = [
    "number",
    "none",
    "not_a_number",
    "not_finite",
    "wrong_length",
    "raised",
    "timed_out",
    "died",
]
NOT_PASSED_ON = ("trainer_state", "environments")  # parts of the trainer
logger = logging.getLogger(__name__)


class Supervised:
    """A reward function for TRL that runs another in worker processes, row by row.

    A row for which it gives no number within the deadline gets None, whatever the function does: it
    may raise, hang, print, fork, take memory or crash. The other rows keep their rewards. `counts`
    holds how often each kind of result came, `log_metric` gets their shares at every step.

    The function is imported in the workers by its name, once: it must be a function of a module,
    not of the script that trains. It is called with one row, each column a list of one; it cannot
    compare responses, and does not see `trainer_state`, `log_metric` or `log_extra`.

    Args:
        function: of the form that TRL calls.
        deadline: seconds for one row.
        columns: those that the function needs; all by default. Pictures cost time to hand over.
        options: `count`, `memory` and `tasks_per_worker` of `Workers`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        deadline: float = 10.0,
        columns: Sequence[str] | None = None,
        **options: Any,
    ):
        module = getattr(function, "__module__", "?")
        name = getattr(function, "__qualname__", repr(function))
        found = getattr(sys.modules.get(module), name, None)
        if module == "__main__" or found is not function or not inspect.isfunction(function):
            raise ValueError(
                f"workers import a reward function by its name, and {module}.{name} cannot be: "
                "put a plain function at the top level of a module, and import it from there"
            )
        if inspect.iscoroutinefunction(function):
            raise ValueError(f"{module}.{name} is async, which workers do not await: make it plain")
        self.__name__ = function.__name__
        self.columns = columns
        self.counts: Counter[str] = Counter()
        self.workers = Workers(module, name, deadline=deadline, **options)

    def __call__(
        self,
        completions: Sequence[Any],
        log_metric: Any = None,
        log_extra: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        passed = {
            name: values
            for name, values in columns.items()
            if name not in NOT_PASSED_ON and (self.columns is None or name in self.columns)
        }
        passed["completions"] = completions
        for name, values in passed.items():
            if len(values) != len(completions):
                raise ValueError(
                    f"column {name!r} must hold one value per completion, {len(completions)}, "
                    f"got {len(values)}"
                )
        outcomes = self.workers.run(
            [
                {name: [values[row]] for name, values in passed.items()}
                for row in range(len(completions))
            ]
        )
        kinds = [outcome.kind for outcome in outcomes]
        self.counts.update(kinds)
        log(self.__name__, kinds, KINDS, log_metric, log_extra)
        self._warn(outcomes)
        return [outcome.number if outcome.kind == "number" else None for outcome in outcomes]

    def _warn(self, outcomes: Sequence[Outcome]) -> None:
        """Say how many rows have no reward for an error; None is a reward function's right."""
        failed = [
            (row, outcome)
            for row, outcome in enumerate(outcomes)
            if outcome.kind not in ("number", "none")
        ]
        if failed:
            row, first = failed[0]
            logger.warning(
                "%s: %d of %d rows have no reward; the first is row %d, %s: %s",
                *(self.__name__, len(failed), len(outcomes), row, first.kind, first.message),
            )


def supervised(
    function: Callable[..., Any],
    *,
    deadline: float = 10.0,
    columns: Sequence[str] | None = None,
    **options: Any,
) -> Supervised:
    """`function` as a reward that may fail without harm; see `Supervised`."""
    return Supervised(function, deadline=deadline, columns=columns, **options)


class Mixed:
    """Several rewards as one, a weighted sum: None where any of them is None.

    TRL's `reward_weights` make 0 of a None beside a number: a row whose accuracy timed out would
    earn its format alone, and count as wrong. Each part's mean is logged under its name.

    Args:
        parts: pairs of reward function and weight.
    """

    def __init__(self, *parts: tuple[Callable[..., Sequence[float | None]], float]):
        if not parts:
            raise ValueError("a mixed reward needs at least one part, got none")
        self.parts = parts
        self.__name__ = "_and_".join(_name(function) for function, _ in parts)

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        log_metric = columns.get("log_metric")
        totals: list[float | None] = [0.0] * len(completions)
        for function, weight in self.parts:
            rewards = function(completions=completions, **columns)
            numbers = [reward for reward in rewards if reward is not None]
            if log_metric and numbers:
                log_metric(f"{_name(function)}/mean", sum(numbers) / len(numbers))
            totals = [
                None if total is None or reward is None else total + weight * reward
                for total, reward in zip(totals, rewards, strict=True)
            ]
        return totals


def _name(function: Mapping | Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)
