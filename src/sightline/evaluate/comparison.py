"""Two evaluations of the same questions: which model is better, and how sure that is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .run import SAMPLES, read_samples
from .statistics import mcnemar
from .summary import TITLES, paired_difference, points, questions

# of the protocol, what must be the same for two numbers to mean the same: the name that a user
# knows it by, and where it is
PARTS = {
    "prompt": ("prompt",),
    "decoding": ("decoding",),
    "extractor": ("verifier", "extractor"),
    "what counts as the same answer": ("verifier", "golds"),
    "math-verify": ("verifier", "math-verify"),
    "deadline of the verifier": ("verifier", "deadline"),
    "benchmark": ("benchmark", "name"),
    "task": ("task",),
    "data revision": ("revision",),
    "data": ("fingerprint",),
    "data of the task": ("data_sha256",),
    "number of questions": ("questions",),
    "rows": ("ids_blake2b",),
}


def compare(first: Path, second: Path) -> dict[str, Any]:
    """How the second model does on what both were asked, for each image condition of both.

    Raises:
        ValueError: the protocols differ, or no condition is common to both.
    """
    results = [_result(folder) for folder in (first, second)]
    one, two = (result["protocol"] for result in results)
    if said := differences(one, two):
        raise ValueError(
            f"{first} and {second} were not asked alike, so nothing is compared: a difference "
            f"would not be the models'. {'; '.join(said)}. Ask one of them again as the other was"
        )
    samples = [list(read_samples(folder)) for folder in (first, second)]
    _check_questions(samples, (first, second))
    found: dict[str, Any] = {}
    for condition in one["conditions"]:
        if condition in two["conditions"]:
            asked = [questions(lines, condition) for lines in samples]
            if difference := _difference(*asked):
                found[condition] = difference
    if not found:
        raise ValueError(f"{first} and {second} have no question under the same image in common")
    return {
        "first": {"folder": str(first), "model": results[0]["model"]},
        "second": {"folder": str(second), "model": results[1]["model"]},
        "conditions": found,
    }


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Each part in which two protocols differ, by name and with both values."""
    said = []
    for name, path in PARTS.items():
        first, second = (_at(protocol, path) for protocol in (one, two))
        if first != second:
            said.append(f"{name}: {_told(first, second)} and {_told(second, first)}")
    return said


def _at(protocol: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = protocol
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _told(value: Any, other: Any) -> str:
    """A value, or of two mappings the entries that differ."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        value = {key: v for key, v in value.items() if other.get(key, ...) != v}
        return ", ".join(f"{key} {v!r}" for key, v in value.items()) or "without these"
    return "unknown" if value is None else str(value)


def report(found: Mapping[str, Any]) -> list[str]:
    """A comparison in lines to read."""
    lines = [f"first:  {found['first']['model']['name']}  ({found['first']['folder']})"]
    lines += [f"second: {found['second']['model']['name']}  ({found['second']['folder']})"]
    for condition, numbers in found["conditions"].items():
        tested = numbers["mcnemar"]
        lines += [
            f"{TITLES[condition]}: the second has {points(numbers)}, over {numbers['questions']} "
            "questions",
            f"  solved by the first alone {tested['only_first']}, by the second alone "
            f"{tested['only_second']}: McNemar's exact p = {tested['p']:.3g}",
        ]
    return lines


def _difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any] | None:
    common = [name for name in first if name in second]
    numbers = paired_difference(first, second)
    if numbers is None:
        return None
    only_first, only_second, p = mcnemar(
        [first[name].solved for name in common], [second[name].solved for name in common]
    )
    return {
        **numbers,
        "mcnemar": {"only_first": only_first, "only_second": only_second, "p": p},
    }


def _result(folder: Path) -> dict[str, Any]:
    path = folder / "result.json"
    if not path.is_file() or not (folder / SAMPLES).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished evaluation: it needs result.json and {SAMPLES}"
        )
    result = json.loads(path.read_text(encoding="utf-8"))
    if "protocol" not in result or "model" not in result:
        raise ValueError(f"{path} is not the result of sightline eval")
    return result


def _check_questions(
    samples: Sequence[Sequence[Mapping[str, Any]]], folders: Sequence[Path]
) -> None:
    """Raise if an id means one question here and another there; the prompts may differ."""
    golds = {line["id"]: line["gold"] for line in samples[0]}
    for line in samples[1]:
        if line["id"] in golds and golds[line["id"]] != line["gold"]:
            raise ValueError(
                f"question {line['id']!r} has the answer {golds[line['id']]!r} in {folders[0]} and "
                f"{line['gold']!r} in {folders[1]}: they are not the same questions"
            )
