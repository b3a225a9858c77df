"""The responses token by token: which are shown, and how each is drawn."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Any

from markupsafe import Markup

from .. import tokens
from ..records import Column, Response
from ..runs import Run
from ..tables import Table
from ..thumbnails import SIDE, Thumbnail, thumbnail

SHOWN, CHOICE = 1_000, 12  # responses in the page, and those of them that are not folded
BATCH = 20  # cards that the browser leaves out together while they are out of sight
FOLD, CUT = 400, 4_000  # tokens of one response before the rest folds, and before it is left out
RICH = 20_000  # tokens of a page whose every value is in it for readers without scripts
MANY, SMALL = 100, 144  # responses from which on pictures are smaller, and their longest side
REMOVED = {"blind", "text-only"}  # kinds of views that leave no picture to show


def responses_panel(run: Run, count: int) -> dict[str, Any]:
    """The cards by verdict: a choice first, the rest folded; and what the scripts need."""
    if not run.responses:
        return {}
    chosen = choose(run.responses, count)
    taken = [response for group in chosen.values() for response in group]
    rich = sum(min(len(r.tokens), CUT) for r in taken) <= RICH
    side = SIDE if len(taken) <= MANY else SMALL

    @cache
    def picture(name: str) -> Thumbnail:
        return thumbnail(run.folder, name, side)

    views = dict.fromkeys(name for response in taken for name in response.view_names)
    modes = list(dict.fromkeys(name for response in taken for name in columns_of(response)))
    first = choose(taken, CHOICE)
    groups = {}
    for title, group in chosen.items():
        front = {id(response) for response in first.get(title, ())}
        cards = [card(r, run.gate, picture, modes, rich) for r in group]
        pairs = list(zip(group, cards, strict=True))
        groups[title] = {
            "cards": [drawn for response, drawn in pairs if id(response) in front],
            "more": [drawn for response, drawn in pairs if id(response) not in front],
        }
    return {
        "groups": groups,
        "count": len(taken),
        "batch": BATCH,
        "rich": rich,
        "threshold": run.gate[0],
        "removed": [name for name in views if removed(name)],
        "no_picture": [name for name in views if not removed(name) and not pictured(taken, name)],
        "labelled": any(r.labels for r in run.responses),
        "modes": modes,
        "table": tokens_table(run),
    }


def removed(view: str) -> bool:
    return view.partition(":")[0] in REMOVED


def pictured(responses: Sequence[Response], view: str) -> bool:
    return any(response.view_images.get(view) for response in responses)


def choose(responses: Sequence[Response], count: int = SHOWN) -> dict[str, list[Response]]:
    """Right, wrong and unjudged responses in equal parts, each spread over mean dependency.

    Held-out responses come before training ones, those to their own image before others, and later
    steps before earlier ones; a further step is drawn from only while there are fewer than
    ``count`` responses.
    """

    def age(response: Response) -> tuple[bool, float]:
        return not response.of_counted_split, -(response.step or 0.0)

    pool: list[Response] = []
    for _, group in groupby(sorted(responses, key=age), key=age):
        if len(pool) < count:
            pool.extend(group)
    judged = {
        "Right answers": [r for r in pool if r.right],
        "Wrong answers": [r for r in pool if r.right is False],
        "Answers not judged": [r for r in pool if r.right is None],
    }
    taken = dict.fromkeys(judged, 0)
    while sum(taken.values()) < min(count, len(pool)):
        for title, group in judged.items():
            if taken[title] < len(group) and sum(taken.values()) < count:
                taken[title] += 1
    return {title: spread(judged[title], n) for title, n in taken.items() if n}


def spread(responses: Sequence[Response], count: int) -> list[Response]:
    """``count`` responses at equal steps of rank, from most to least dependent on the image.

    Responses without a score come last, and only when the others do not suffice.
    """
    scored = [r for r in responses if r.mean_dependency is not None]
    ranked = sorted(scored, key=lambda r: -(r.mean_dependency or 0))
    if len(ranked) < count:
        ranked += [r for r in responses if r.mean_dependency is None][: count - len(ranked)]
    last = len(ranked) - 1
    return [ranked[index * last // max(count - 1, 1)] for index in range(count)]


def columns_of(response: Response) -> dict[str, Column | None]:
    """The numbers of each token by their heading."""
    columns: dict[str, Column | None] = {"dependency": response.dependency, **response.views}
    if response.dependency is None:
        columns |= dict.fromkeys(response.views)  # an n/a row has no log-ratios either
    if response.weights:
        columns["weight"] = response.weights
    return columns | {f"{name} credit": column for name, column in response.credit.items()}


def card(
    response: Response,
    gate: tuple[float, float],
    picture: Callable[[str], Thumbnail],
    modes: Sequence[str],
    rich: bool,
) -> dict[str, Any]:
    """A response with its pictures and its tokens, drawn and with what they measured.

    Args:
        gate: threshold and least range.
        modes: headings of all columns of the page; scripts know a column by its place there.
        rich: give every token all its values as text.
    """
    columns = columns_of(response)
    shown = response.tokens[:CUT]
    dependency: Column = response.dependency or [None] * len(response.tokens)
    above = tokens.above_threshold(dependency, *gate)
    rows = [
        {
            "text": text,
            "values": [column[index] if column else None for column in columns.values()],
            "label": response.labels[index] if response.labels else "",
            "above": above[index],
        }
        for index, text in enumerate(shown)
    ]
    texts = [tokens.shown(text) for text in shown]
    names = [tokens.classes(row, dependency[index]) for index, row in enumerate(rows)]
    titles = [tokens.token_title(row, list(columns)) for row in rows] if rich else []

    def part(start: int, end: int) -> dict[str, Any]:
        place = slice(start, end)
        drawn = (
            Markup("").join(tokens.spans(texts[place], names[place], titles[place]))
            if rich
            else tokens.runs(texts[place], names[place])
        )
        return {
            "drawn": drawn,
            "lengths": tokens.lengths(texts[place]),
            "marks": tokens.marks(rows[place]),
        }

    return {
        "response": response,
        "pictures": [picture(name) for name in response.images],
        "views": [
            (name, [picture(image) for image in images])
            for name, images in response.view_images.items()
            if images
        ],
        "columns": list(columns),
        "data": {
            modes.index(name): ",".join(map(tokens.compact, column[:CUT]))
            for name, column in columns.items()
            if column
        },
        "rows": rows if rich else [],
        "count": len(shown),
        "head": part(0, FOLD),
        "rest": part(FOLD, CUT),
        "folded": max(0, len(shown) - FOLD),
        "left_out": max(0, len(response.tokens) - CUT),
    }


def tokens_table(run: Run) -> Table:
    """Every token of every response, those that are not shown too."""
    headings = list(dict.fromkeys(name for r in run.responses for name in columns_of(r)))
    rows = []
    for response in run.responses:
        columns = columns_of(response)
        kept = [columns.get(name) for name in headings]
        labels = response.labels or [""] * len(response.tokens)
        rows += [
            (response.id, response.split, response.step, index, text, labels[index],
             *(column[index] if column else None for column in kept))
            for index, text in enumerate(response.tokens)
        ]  # fmt: skip
    header = ["id", "split", "step", "index", "token", "label", *headings]
    return Table("tokens", header, rows)
