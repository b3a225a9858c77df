"""Two evaluations of the same questions: which model is better, and how sure that is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .run import SAMPLES, read_samples
from .statistics import mcnemar
from .summary import TITLES, paired_difference, points, questions

# of the protocol, what must be the same for two numbers to mean the same
BINDING = ("prompt", "decoding", "verifier")


def compare(first: Path, second: Path, any_protocol: bool = False) -> dict[str, Any]:
    """How the second model does on what both were asked, for each image condition of both.

    Args:
        any_protocol: compare although they were asked or judged in different ways.

    Raises:
        ValueError: the protocols differ, a question is another one, or none was asked of both.
    """
    results = [_result(folder) for folder in (first, second)]
    one, two = (result["protocol"] for result in results)
    differing = [part for part in BINDING if one.get(part) != two.get(part)]
    if differing and not any_protocol:
        said = "; ".join(f"{part}: {one.get(part)} and {two.get(part)}" for part in differing)
        raise ValueError(
            f"{first} and {second} have different protocols, and their difference would not be "
            f"the models': {said}; --any-protocol compares them all the same"
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
        "protocols_differ_in": differing,
        "conditions": found,
    }


def report(found: Mapping[str, Any]) -> list[str]:
    """A comparison in lines to read."""
    lines = [f"first:  {found['first']['model']['name']}  ({found['first']['folder']})"]
    lines += [f"second: {found['second']['model']['name']}  ({found['second']['folder']})"]
    if found["protocols_differ_in"]:
        lines.append(f"their protocols differ in {', '.join(found['protocols_differ_in'])}")
    for condition, numbers in found["conditions"].items():
        tested, left_out = numbers["mcnemar"], numbers["left_out"]
        lines += [
            f"{TITLES[condition]}: the second has {points(numbers)}, over {numbers['questions']} "
            "questions of both" + (f" ({left_out} of one alone)" if left_out else ""),
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
        "left_out": len(first.keys() ^ second.keys()),
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
