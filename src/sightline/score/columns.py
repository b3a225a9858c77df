"""Which columns of a file hold what: decided for each row, as sources are mixed in a file."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.dialects import KNOWN
from ..data.images import cells_of

# what is taken for what: of a row, the first that holds something; `chat` is what
# `sightline score` writes itself, `input`, `output`, `gts` and `score` are verl's
COLUMNS = {
    **{"id": KNOWN["id"], "prompt_id": ("prompt_id",)},
    "prompt": ("chat", *KNOWN["prompt"], "messages", "input"),
    "images": KNOWN["images"],
    "response": ("response", "completion", "output", "answer_text"),
    "response_ids": ("response_ids", "completion_ids"),
    "gold": ("gold", *KNOWN["answer"], "gts"),
    # only whether it is above 0 is read off it: what counts form as well comes last
    "reward": ("accuracy", "acc", "correct", "reward", "score"),
    "finished": ("finished", "finish_reason", "ended"),  # the last is that of `sightline eval`
    **{name: (name,) for name in ("reward_reason", "spans", "labels", "split", "step")},
}


def candidates(names: Sequence[str], told: Mapping[str, str] | None) -> dict[str, list[str]]:
    """The columns called `names` that may hold each part of a row, the first of them first.

    Args:
        told: the column of some parts, by which no other one is taken for them.
    """
    told = dict(told or {})
    if strange := sorted(set(told) - set(COLUMNS)):
        raise ValueError(f"--columns may name {', '.join(COLUMNS)}, got {', '.join(strange)}")
    if missing := sorted(set(told.values()) - set(names)):
        raise ValueError(
            f"--columns: there is no column {', '.join(missing)}; there are "
            f"{', '.join(sorted(names))}"
        )
    found = {
        part: [told[part]] if part in told else [name for name in known if name in names]
        for part, known in COLUMNS.items()
    }
    return {part: columns for part, columns in found.items() if columns}


def column_of(raw: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """The first of these columns that holds something in this row, an empty text if all are."""
    there = [name for name in columns if raw.get(name) is not None]
    return next((name for name in there if raw[name] != ""), there[0] if there else None)


def images_of(raw: Mapping[str, Any], columns: Sequence[str]) -> tuple[str | None, list[Any]]:
    """The column that holds this row's images, and their cells.

    Raises:
        ValueError: two columns hold different ones.
    """
    given = {name: cells for name in columns if (cells := cells_of(raw.get(name)))}
    if not given:
        return None, []
    chosen = next(iter(given))
    for other, cells in given.items():
        if any(cell not in given[chosen] for cell in cells):
            raise ValueError(
                f"its columns {chosen} and {other} hold different pictures: leave one of them "
                f"out, or say which with --columns images={chosen}"
            )
    return chosen, given[chosen]
