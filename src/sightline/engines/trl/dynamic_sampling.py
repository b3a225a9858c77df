"""DAPO's dynamic sampling (arXiv:2503.14476, section 3.2), which TRL does not have.

A group whose responses all earn the same teaches nothing. More prompts are answered, round after
round, until the batch is full of groups that differ. Each round runs TRL's own method up to the
rewards; then it runs once more, whole, on the groups that were kept, what they said and earned
given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...views import draw_seed
from .resume import ResumableGRPOTrainer

POLICIES = ("keep", "skip", "error")


@dataclass(frozen=True)
class DynamicSampling:
    """When to go on sampling, and what to do if it does not help.

    Args:
        max_rounds: of generation per batch, the first included.
        reward: name of the reward function that must differ within a group, such as the accuracy;
            a shaped reward may differ where nothing can be learned. None for the weighted sum.
        when_short: if groups that differ are too few after the last round: ``"keep"`` fills the
            batch with groups that do not, whose gradient is 0; ``"skip"`` takes no optimizer step
            on it; ``"error"`` stops.
    """

    max_rounds: int = 10
    reward: str | None = None
    when_short: str = "keep"

    def __post_init__(self):
        if not self.max_rounds >= 1:
            raise ValueError(f"max_rounds must be at least 1, got {self.max_rounds}")
        if self.when_short not in POLICIES:
            raise ValueError(f"when_short must be one of {POLICIES}, got {self.when_short!r}")


class _Round(NamedTuple):
    """What one round brought.

    Args:
        rows: of this process.
        generated: what TRL's generation returned for them.
        rewards: of all processes, a column per reward function.
        columns: what reward functions logged per response of this process.
    """

    rows: list[dict]
    generated: tuple[Any, ...]
    rewards: Tensor
    columns: dict[str, list]


class DynamicSamplingTrainer(ResumableGRPOTrainer):
    """GRPO that can go on sampling; `_filled` gives the rows of a batch worth training on."""

    dynamic_sampling: DynamicSampling | None = None
    num_generations: int
    _rounds: list[_Round] | None = None  # while collecting
    _generated: tuple[Any, ...] | None = None  # of the round at hand
    _replayed: tuple[tuple[Any, ...], Tensor] | None = None  # what was generated and earned

    @property
    def replays(self) -> bool:
        """Whether TRL is given what was generated before."""
        return self._replayed is not None

    def check_dynamic_sampling(self) -> None:
        """Raise unless the data and the rewards allow it."""
        if self.dynamic_sampling is None:
            return
        if not hasattr(self.train_dataset, "__getitem__"):
            raise ValueError(
                "dynamic sampling draws prompts by their place: it needs a data set with "
                f"rows, not {type(self.train_dataset).__name__}"
            )
        named = self.dynamic_sampling.reward
        if named is not None and named not in self.reward_func_names:
            raise ValueError(
                f"dynamic sampling looks at the reward {named!r}; there are "
                f"{self.reward_func_names}"
            )

    @contextmanager
    def _filled(self, inputs: list[dict]) -> Iterator[tuple[list[dict], bool]]:
        """Rows to train on in place of `inputs`, and whether to take no step on them after all.

        Within, TRL's generation and rewards give what was sampled for these rows already.
        """
        if self.dynamic_sampling is None:
            yield inputs, False
            return
        groups, short = self._collect(inputs)
        rank = self.accelerator.process_index
        rounds, self._rounds = self._rounds or [], None
        rewards = torch.stack([rounds[n].rewards[row] for chosen in groups for n, row in chosen])
        mine: list[tuple[int, int]] = [
            (number, row - rank * len(inputs)) for number, row in groups[rank]
        ]
        self._replayed = _join([r.generated for r in rounds], mine), rewards
        for column in {name for r in rounds for name in r.columns}:
            values = [r.columns.get(column, [None] * len(inputs)) for r in rounds]
            self._pending_extra_logs[column] = [values[n][row] for n, row in mine]
        try:
            skip = short and self.dynamic_sampling.when_short == "skip"
            yield [rounds[n].rows[row] for n, row in mine], skip
        finally:
            self._replayed = None

    def _collect(self, inputs: list[dict]) -> tuple[list[list[tuple[int, int]]], bool]:
        """Run rounds until each process has its groups.

        Returns:
            Per process, the round and row of each of its responses, rows counted over all
            processes; and whether some of its groups do not differ.
        """
        settings, size = self.dynamic_sampling, self.num_generations
        assert settings is not None
        processes, wanted = self.accelerator.num_processes, len(inputs) // size
        kept: list[list[tuple[int, int]]] = [[] for _ in range(processes)]  # round and first row
        rest: list[list[tuple[int, int]]] = [[] for _ in range(processes)]
        self._rounds = []
        while len(self._rounds) < settings.max_rounds and min(map(len, kept)) < wanted:
            rows = self._draw(wanted) if self._rounds else inputs
            self._run_round(rows)
            differ = self._differ(self._rounds[-1].rewards)
            for group, varied in enumerate(differ.tolist()):
                found = kept if varied else rest
                found[group // wanted].append((len(self._rounds) - 1, group * size))
        short = min(map(len, kept)) < wanted
        generated = len(self._rounds) * wanted * processes
        differing = sum(map(len, kept))
        if short and settings.when_short == "error":
            raise ValueError(
                f"step {self.state.global_step + 1}: after {settings.max_rounds} rounds "
                f"{differing} of {generated} groups differ in reward, and a process needs "
                f"{wanted}: make the questions easier or harder, raise max_rounds, or choose "
                "when_short='keep' or 'skip'"
            )
        used = sum(min(len(found), wanted) for found in kept)
        self._metrics["train"]["sampling/rounds"].append(float(len(self._rounds)))
        self._metrics["train"]["sampling/differing_share"].append(differing / generated)
        self._metrics["train"]["sampling/generated_per_used"].append(generated / max(used, 1))
        chosen = [(k + r)[:wanted] for k, r in zip(kept, rest, strict=True)]
        rows = [[(n, first + i) for n, first in mine for i in range(size)] for mine in chosen]
        return rows, short

    def _run_round(self, rows: list[dict]) -> None:
        """TRL's own method up to the rewards."""
        assert self._rounds is not None
        try:
            super()._generate_and_score_completions(rows)
        except _RewardsKnown as known:
            assert self._generated is not None
            columns = dict(self._pending_extra_logs)
            self._pending_extra_logs.clear()  # they come back for the responses that are kept
            self._rounds.append(_Round(rows, self._generated, known.rewards, columns))

    def _differ(self, rewards: Tensor) -> Tensor:
        """`(groups,)`: whether the responses of a group earned different rewards."""
        settings = self.dynamic_sampling
        assert settings is not None
        if settings.reward is None:
            earned = (rewards * self.reward_weights.to(rewards)).nansum(1)
        else:
            earned = rewards[:, self.reward_func_names.index(settings.reward)]
        groups = earned.view(-1, self.num_generations)
        unknown = groups.isnan()
        most = groups.masked_fill(unknown, -torch.inf).amax(1)
        return most > groups.masked_fill(unknown, torch.inf).amin(1)

    def _draw(self, groups: int) -> list[dict]:
        """New prompts for this process, each once per response, from an order of their own."""
        data: Any = self.train_dataset
        first = self._refills + self.accelerator.process_index * groups
        self._refills += self.accelerator.num_processes * groups
        rows, orders = [], {}
        for place in range(first, first + groups):
            cycle, index = divmod(place, len(data))
            if cycle not in orders:
                seed = draw_seed(int(self.args.seed), cycle, "refills", None, 0, "dynamic sampling")
                generator = torch.Generator().manual_seed(seed)
                orders[cycle] = torch.randperm(len(data), generator=generator)
            rows += [data[int(orders[cycle][index])]] * self.num_generations
        return [dict(row) for row in rows]

    def _generate(self, prompts: list) -> Any:
        if self._replayed is not None:
            return self._replayed[0]
        self._generated = super()._generate(prompts)
        return self._generated

    def _calculate_rewards(self, inputs: list[dict], *args: Any, **kwargs: Any) -> Tensor:
        if self._replayed is not None:
            return self._replayed[1]
        rewards = super()._calculate_rewards(inputs, *args, **kwargs)
        if self._rounds is not None:
            raise _RewardsKnown(rewards)
        return rewards

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if self._rounds is not None:  # for responses that may not be kept
            return input_ids.new_zeros(len(input_ids), logits_to_keep).float(), None, None
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )


class _RewardsKnown(Exception):
    """Ends a round."""

    def __init__(self, rewards: Tensor):
        self.rewards = rewards


def _join(rounds: list[tuple[Any, ...]], rows: list[tuple[int, int]]) -> tuple[Any, ...]:
    """What TRL generated for these (round, row), member by member.

    Members that are lists with one entry per row are cut, whatever their number and order; None in
    some of the rounds stands for rows that have none. The others are alike in all rounds.
    """
    count = len(rounds[0][0])
    joined = []
    for members in zip(*rounds, strict=True):
        if any(isinstance(m, list) and len(m) == count for m in members):
            full = [[None] * count if m is None else m for m in members]
            joined.append([full[number][row] for number, row in rows])
        else:
            joined.append(members[0])
    return tuple(joined)
