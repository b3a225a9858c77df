"""One evaluation: every question, under every condition, n times; a batch at a time, resumable."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..encoding import pictures_of
from ..records import append_lines, keep_lines, question, save_images
from ..rewards import EXTRACTORS, REWARDS, Verifier
from ..views import draw_seed
from .conditions import digest, other_rows, shown
from .protocol import Decoding
from .sampling import sampled_responses

SAMPLES = "samples.jsonl"
PICTURED = 12  # questions whose pictures are kept, for the report, unless all are


class Job(NamedTuple):
    """One response to be sampled: what names its line, and its dice."""

    condition: str
    row: int
    sample: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What is asked, in which batches: a function of the request alone, so that it can go on.

    Args:
        rows: the questions; a sequence of rows with `prompt`, `images` and `answer`.
        ids: theirs.
        pictured: per row, whether it has an image.
        others: per row, the one whose images it is shown under ``other``; None for those that are
            left out of it.
        conditions: which image is shown: ``true``, ``none``, ``other``.
        decoding: how responses are drawn.
        seed: of the dice, together with the question's id, the condition and the sample's number.
        batch_size: responses at a time; decides the last bits of a model's numbers.
        keep_images: keep the pictures of all questions, for responses that are to be scored.
    """

    rows: Any
    ids: Sequence[str]
    pictured: Sequence[bool]
    others: Sequence[int | None]
    conditions: Sequence[str]
    decoding: Decoding
    seed: int
    batch_size: int
    keep_images: bool = False

    def jobs(self) -> list[Job]:
        """All of them; a row without an image has none under ``none`` and ``other``."""
        asked = {
            "true": [True] * len(self.ids),
            "none": self.pictured,
            "other": [other is not None for other in self.others],
        }
        return [
            Job(condition, row, sample)
            for condition in self.conditions
            for row, wanted in enumerate(asked[condition])
            if wanted
            for sample in range(self.decoding.n)
        ]

    def without_partner(self) -> list[str]:
        """Rows with an image that ``other``, where it is asked, leaves out for want of another."""
        if "other" not in self.conditions:
            return []
        rows = zip(self.ids, self.pictured, self.others, strict=True)
        return [name for name, pictured, other in rows if pictured and other is None]


def plan(
    rows: Any,
    ids: Sequence[str],
    conditions: Sequence[str],
    decoding: Decoding,
    seed: int,
    batch_size: int,
    keep_images: bool = False,
) -> Plan:
    """Choose the other images, where somebody wants to see them; the arguments are `Plan`'s.

    Raises:
        ValueError: there is nothing to ask, or no image to take away.
    """
    if not len(ids):
        raise ValueError("there are no questions to ask")
    others: list[int | None] = [None] * len(ids)
    pictured = [False] * len(ids)
    if set(conditions) != {"true"}:
        digests = [digest(pictures_of(row)) for row in rows]
        if not any(digests):
            asked = " ".join(condition for condition in conditions if condition != "true")
            raise ValueError(f"no question has an image, so --image {asked} would change nothing")
        pictured = [bool(found) for found in digests]
        if "other" in conditions:
            others = other_rows(digests)
            if not any(other is not None for other in others):
                raise ValueError(
                    f"none of {sum(pictured)} questions with an image has a partner, another "
                    "question with as many images that all differ from its own: leave out "
                    "--image other"
                )
    return Plan(rows, ids, pictured, others, conditions, decoding, seed, batch_size, keep_images)


def evaluate(
    model: Any,
    processor: Any,
    plan: Plan,
    verifier: Verifier,
    folder: Path,
    progress: Callable[[int], Any] = lambda done: None,
) -> list[dict[str, Any]]:
    """Sample and judge what `samples.jsonl` in `folder` does not hold yet; return all its lines.

    Lines are appended batch by batch. A batch that an interrupt cut short is asked again as a
    whole, so that every response comes about among the same neighbours.

    Args:
        progress: told the number of responses that are there.
    """
    jobs, size = plan.jobs(), plan.batch_size
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    whole = _whole_batches(folder / SAMPLES, plan, batches)
    done = sum(map(len, batches[:whole]))
    progress(done)
    for batch in batches[whole:]:
        append_lines(folder / SAMPLES, _answer(model, processor, plan, batch, verifier, folder))
        done += len(batch)
        progress(done)
    return list(read_samples(folder))


def read_samples(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of `samples.jsonl`."""
    with (folder / SAMPLES).open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def _whole_batches(path: Path, plan: Plan, batches: Sequence[Sequence[Job]]) -> int:
    """How many batches are in the file already; a half one, which is its end, is dropped."""
    if not path.exists():
        return 0
    keep_lines(path, lambda line: True)  # a last line that was cut off goes
    names = [(line["condition"], line["id"], line["sample"]) for line in read_samples(path.parent)]
    ordered = [(job.condition, plan.ids[job.row], job.sample) for job in plan.jobs()]
    if names != ordered[: len(names)]:
        raise ValueError(f"{path} holds samples of another evaluation: choose another folder")
    whole = ended = 0
    while whole < len(batches) and ended + len(batches[whole]) <= len(names):
        ended += len(batches[whole])
        whole += 1
    kept = set(ordered[:ended])
    keep_lines(path, lambda line: (line["condition"], line["id"], line["sample"]) in kept)
    return whole


def _answer(
    model: Any,
    processor: Any,
    plan: Plan,
    batch: Sequence[Job],
    verifier: Verifier,
    folder: Path,
) -> list[dict[str, Any]]:
    """The lines of one batch."""
    rows, decoding = [], plan.decoding
    for job in batch:
        other = plan.others[job.row] if job.condition == "other" else None
        rows.append(
            shown(plan.rows[job.row], job.condition, None if other is None else plan.rows[other])
        )
    seeds = [
        draw_seed(plan.seed, 0, plan.ids[job.row], job.sample, 0, job.condition) for job in batch
    ]
    sampled = sampled_responses(
        model,
        processor,
        rows,
        seeds,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        max_new_tokens=decoding.max_new_tokens,
    )
    golds = [str(row["answer"]) for row in rows]
    verdicts = verifier.verdicts([response.text for response in sampled], golds)
    find = EXTRACTORS[verifier.extractor].find
    return [
        {
            "id": plan.ids[job.row],
            "condition": job.condition,
            "sample": job.sample,
            "split": f"{job.condition} image",
            "prompt": question(row["prompt"]),
            "chat": row["prompt"],  # as it was asked, a system message apart: to be scored
            "images": save_images(folder, row) if plan.keep_images or job.row < PICTURED else [],
            "gold": gold,
            "response": response.text,
            "answer": find(response.text),
            "length": response.tokens,
            "ended": response.ended,
            "reward": REWARDS[verdict],
            "reward_reason": str(verdict),
        }
        for job, row, gold, response, verdict in zip(
            batch, rows, golds, sampled, verdicts, strict=True
        )
    ]
