"""Packages and GPU: what is there, what is missing, and the line that installs it.

Imports nothing that may be missing.
"""

import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import torch
from packaging.requirements import Requirement

from ..records import PACKAGES
from .findings import OK, PROBLEM, WARNING, Finding

EXTRAS = ("trl", "report", "tasks", "rewards")  # of pyproject.toml
SHOWN = ("datasets", "accelerate", "peft", "math-verify", "pillow", "vllm")


def versions() -> Finding:
    """The versions that the run would have."""
    found = {"python": platform.python_version()}
    found |= {name: own for name in (*PACKAGES, *SHOWN) if (own := _version(name))}
    return Finding(OK, "environment.versions", ", ".join(f"{n} {v}" for n, v in found.items()))


def packages(needed: Iterable[str]) -> list[Finding]:
    """What each extra of Sightline lacks: a problem for those that are `needed`, else a warning."""
    needed, lacking = set(needed), []
    for extra in ("", *EXTRAS):
        missing = list(unmet(requires("sightline") or [], extra))
        if not missing:
            continue
        problem = not extra or extra in needed
        package = f"sightline[{extra}]" if extra else "sightline"
        lacking.append(
            Finding(
                PROBLEM if problem else WARNING,
                "environment.packages",
                ("this run" if problem else f"{package}, which this run does without,")
                + f" needs {'; '.join(missing)}",
                f"pip install '{package}'",
            )
        )
    return lacking or [
        Finding(OK, "environment.packages", f"all of sightline[{','.join(EXTRAS)}] is installed")
    ]


def unmet(requirements: Iterable[str], extra: str) -> Iterator[str]:
    """Those requirements of an extra, or of none, that no installed package meets."""
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None:
            asked = "extra" in str(wanted.marker)
            if asked != bool(extra) or not wanted.marker.evaluate({"extra": extra}):
                continue
        elif extra:
            continue
        name = f"{wanted.name}{wanted.specifier}"
        there = _version(wanted.name)
        if there is None:
            yield f"{name} (not installed)"
        elif not wanted.specifier.contains(there, prereleases=True):
            yield f"{name} (installed: {there})"
        else:
            for inner in sorted(wanted.extras):
                yield from unmet(requires(wanted.name) or [], inner)


def vllm(use_vllm: bool, mode: str) -> list[Finding]:
    """Whether a run with vLLM in its own process has it."""
    if not use_vllm or mode != "colocate" or _version("vllm"):
        return []
    return [
        Finding(
            PROBLEM,
            "environment.packages",
            "the run generates with vLLM, which is not installed",
            f"pip install 'trl[vllm]=={_version('trl')}'",
        )
    ]


def gpu(model: str) -> Finding:
    """What there is to compute on."""
    if not torch.cuda.is_available():
        alone = model == "tiny"
        return Finding(
            OK if alone else WARNING,
            "environment.gpu",
            "no GPU: everything runs on the CPU",
            "" if alone else "start the run where there is a GPU, and check it there as well",
        )
    cards = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    names = ", ".join(f"{card.name} with {card.total_memory / 2**30:.0f} GiB" for card in cards)
    return Finding(OK, "environment.gpu", names, numbers={"gpus": len(cards)})


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
