"""The frozen benchmarks as tasks of lmms-eval: what its YAML files in `lmms_eval/` call.

``lmms_eval --include_path .../sightline/evaluate/lmms_eval --tasks sightline_geo3k``. Rows, words,
dice and judge are those of `benchmarks/`; the engine that answers is lmms-eval's.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from ..data import Limits, decode
from ..prompts import PROMPTS
from ..rewards import REWARDS, Verifier
from .frozen_rows import fetch, pictures_place, question_of
from .protocol import Protocol, load_protocol


def doc_to_visual(doc: Mapping[str, Any], kwargs: Mapping[str, Any]) -> list[Image.Image]:
    """The question's pictures."""
    root, place = _place(kwargs["benchmark"])
    paths = question_of(doc, "of lmms-eval")["images"]
    return [decode(str(place / path), Limits(root)) for path in paths]


def doc_to_text(doc: Mapping[str, Any], kwargs: Mapping[str, Any]) -> str:
    """The question in the papers' format; lmms-eval puts the pictures ahead of it."""
    question = question_of(doc, "of lmms-eval")["problem"].replace("<image>", "")
    return PROMPTS[_protocol(kwargs["benchmark"]).prompt["name"]].text(question)


def doc_to_target(doc: Mapping[str, Any]) -> str:
    """The gold."""
    return question_of(doc, "of lmms-eval")["answer"]


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """The share of right samples among those that could be judged, and the share of the others.

    Args:
        results: one response, or the list of a question's repeats.
    """
    responses = [
        text for found in results for text in ([found] if isinstance(found, str) else found)
    ]
    verdicts = Verifier().verdicts(responses, [doc_to_target(doc)] * len(responses))
    rewards = [REWARDS[verdict] for verdict in verdicts]
    judged = [reward for reward in rewards if reward is not None]
    return {
        "accuracy": fmean(judged) if judged else 0.0,
        "not_judged": 1 - len(judged) / len(rewards),
    }


@cache
def _protocol(benchmark: str) -> Protocol:
    return load_protocol(benchmark)


@cache
def _place(benchmark: str) -> tuple[Path, Path]:
    source = _protocol(benchmark).source
    folder, revision = fetch(source)
    return pictures_place(folder, source, revision)
