"""Where in the response the image is read."""

from typing import Any

import numpy as np

from ..charts import lines
from ..runs import Run
from ..statistics import mean_interval
from ..tables import Table

PARTS = 20  # of a response, equal in length


def position(run: Run) -> dict[str, Any]:
    """Mean dependency in each twentieth of a response, from its first to its last token."""
    sums, counts = np.zeros((2, len(run.counted), PARTS))
    for row, response in enumerate(run.counted):
        for index, value in enumerate(response.dependency or []):
            if value is not None:
                part = index * PARTS // len(response.tokens)
                sums[row, part] += value
                counts[row, part] += 1
    filled = [part for part in range(PARTS) if counts[:, part].any()]
    if len(filled) < 2:
        return {}
    values = [
        (float(sums[:, p].sum() / counts[:, p].sum()), *mean_interval(sums[:, p], counts[:, p]))
        for p in filled
    ]
    places = [100 * (part + 0.5) / PARTS for part in filled]
    return {
        "banded": any(low is not None for _, low, _ in values),
        "figure": lines(
            "position",
            "Mean dependency by place in the response",
            {"all": (places, values)},
            ("place in the response, %", "mean dependency, nats"),
        ),
        "table": Table(
            "position",
            ["from_percent", "to_percent", "tokens", "mean", "low", "high"],
            [
                (100 * p // PARTS, 100 * (p + 1) // PARTS, int(counts[:, p].sum()), *value)
                for p, value in zip(filled, values, strict=True)
            ],
        ),
    }
