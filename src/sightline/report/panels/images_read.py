"""Which of several images a token read: one view for each image that it hides."""

import re
from collections import Counter
from typing import Any

from ..runs import Run
from ..statistics import sampled_kl
from ..tables import Table

NAMED = re.compile(r".*image[-_:= ]?(\d{1,3})", re.DOTALL)  # such as blind:image=0
LEAST = 0.1  # nats; below it a token read no image


def images_read(run: Run) -> dict[str, Any]:
    """How many tokens depend most on each image, and which tokens those are.

    A view whose name ends in ``image=0``, ``image=1``, … hides that image alone. Responses to one
    image are left out: there is nothing to choose from.
    """
    most: Counter[str] = Counter()
    words: dict[str, Counter[str]] = {}
    responses = 0
    for response in run.counted:
        views = [
            (name, sampled_kl(ratio))
            for name in response.view_names
            if NAMED.fullmatch(name) and (ratio := response.views.get(f"{name} log-ratio"))
        ]
        if len(views) < 2 or len(response.images) < 2:
            continue
        responses += 1
        for index, token in enumerate(response.tokens):
            known = [(column[index] or 0.0, name) for name, column in views]
            value, name = max(known, key=lambda pair: pair[0])
            name = name if value >= LEAST else "none"
            most[name] += 1
            words.setdefault(name, Counter())[token.strip()] += 1
    if not responses:
        return {}
    total = most.total()
    rows = [
        (name, count, count / total, [word for word, _ in words[name].most_common(8) if word])
        for name, count in sorted(most.items())
    ]
    table = Table(
        "images_read",
        ["image", "tokens", "share"],
        [(name, n, share) for name, n, share, _ in rows],
    )
    return {"rows": rows, "responses": responses, "least": LEAST, "table": table}
