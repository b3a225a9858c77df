"""Memory and time of a run, estimated as `sightline train --dry-run` does."""

import os
from typing import Any

import torch

from ..algorithms import Algorithm
from ..dry_run import GIB, SPEED, job_of
from ..estimate import arithmetic, memory, peak
from ..run_arguments import RunArguments
from .findings import OK, PROBLEM, WARNING, Finding

USABLE = 0.9  # of a card: the estimate leaves out what CUDA and its allocator hold


def cost(
    run: RunArguments, algorithm: Algorithm, args: Any, questions: int, longest: int
) -> list[Finding]:
    """What the run needs.

    Args:
        questions: rows that it trains on.
        longest: tokens of the longest prompt, 0 if unknown.
    """
    try:
        job = job_of(run, args, questions)
    except (ValueError, OSError) as error:
        return [Finding(WARNING, "cost.memory", f"memory and time were not estimated: {error}")]
    if job.prompts > questions:
        what = f"a rollout batch takes {job.prompts} prompts, and there are {questions} rows"
        do = "more rows, or smaller per_device_train_batch_size and gradient_accumulation_steps"
        return [Finding(PROBLEM, "cost.rows", what, do)]
    need, there = peak(memory(job)), capacity()
    severity = OK if need <= USABLE * there else WARNING
    each = "each GPU" if torch.cuda.is_available() else "this machine"
    if longest > job.prompt_tokens:
        severity = WARNING
    what = f"up to {need / GIB:.3g} GiB for prompts of {job.prompt_tokens:,} tokens (estimated)"
    what += f"; {each} has {there / GIB:.3g}; the longest prompt has {longest:,} tokens"
    numbers = {"bytes": need, "available": there, "prompt_tokens": job.prompt_tokens}
    do = "" if severity == OK else "smaller batches or images, LoRA, sharding: docs/recipes.md"
    flops = arithmetic(job, algorithm.views())
    hours = flops / SPEED / job.processes / 3600
    took = (
        f"{job.steps:,} steps, {flops / 1e15:,.4g} PFLOP without generation: {hours:.3g} hours at "
        f"{SPEED / 1e12:.0f} TFLOP/s on each of {job.processes} GPU (estimated)"
    )
    return [
        Finding(severity, "cost.memory", what, do, numbers=numbers),
        Finding(OK, "cost.time", took, numbers={"steps": job.steps, "flops": flops}),
    ]


def capacity() -> float:
    """Bytes of the first GPU, or of this machine's memory without one."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
