"""Anchor tokens: which token texts depend most and least on the image, with contexts."""

from typing import Any

from ..runs import Run
from ..tables import Table

SHOWN = 15
LEAST = 3  # occurrences, if there are enough such tokens
BEFORE, AFTER = 6, 4  # tokens of context


def anchors(run: Run) -> dict[str, Any]:
    """Token texts by mean dependency, each with its most (least) dependent occurrence."""
    found: dict[str, list[tuple[float, int, int]]] = {}
    for row, response in enumerate(run.counted):
        for index, value in enumerate(response.dependency or []):
            text = response.tokens[index].strip()[:200]
            if value is not None and text:
                found.setdefault(text, []).append((value, row, index))
    often = {text: places for text, places in found.items() if len(places) >= LEAST}
    least = LEAST if len(often) >= 2 * SHOWN else 1
    kept = often if least > 1 else found
    if not kept:
        return {}

    def row_of(text: str, pick: Any) -> tuple[Any, ...]:
        places = kept[text]
        value, row, index = pick(places)
        tokens = run.counted[row].tokens
        word = tokens[index].lstrip(" ")
        space = " " * (len(tokens[index]) - len(word))
        context = ["".join(tokens[max(0, index - BEFORE) : index]) + space, word,
                   "".join(tokens[index + 1 : index + 1 + AFTER])]  # fmt: skip
        mean = sum(place[0] for place in places) / len(places)
        return text, len(places), mean, value, run.counted[row].id, context

    ranked = sorted(kept, key=lambda text: (-sum(p[0] for p in kept[text]) / len(kept[text]), text))
    top = [row_of(text, max) for text in ranked[:SHOWN]]
    bottom = [row_of(text, min) for text in reversed(ranked[SHOWN:][-SHOWN:])]
    table = Table(
        "anchors",
        ["end", "token", "count", "mean", "here", "id", "before", "after"],
        [
            (end, text, count, mean, value, id, context[0], context[2])
            for end, rows in (("top", top), ("bottom", bottom))
            for text, count, mean, value, id, context in rows
        ],
    )
    return {"top": top, "bottom": bottom, "least": least, "kinds": len(kept), "table": table}
