"""The names of random draws: what the randomness of a view hangs on, and nothing else."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from PIL import Image

from .encoding import pictures_of


class Draws(NamedTuple):
    """What names each random draw of a view, one entry per row: never its place in a batch (T14).

    Args:
        seed: of the run.
        step: of training.
        prompts: the id of each row's prompt.
        responses: which of the responses to that prompt the row is.
    """

    seed: int
    step: int
    prompts: Sequence[str]
    responses: Sequence[int]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], seed: int = 0, step: int = 0) -> "Draws":
        """Prompts named by their `id`, or by a hash of words and pictures where they have none."""
        prompts = [str(row["id"]) if row.get("id") is not None else _hash(row) for row in rows]
        seen: Counter[str] = Counter()
        responses = []
        for prompt in prompts:
            responses.append(seen[prompt])
            seen[prompt] += 1
        return cls(seed, step, prompts, responses)

    def select(self, rows: Sequence[int]) -> "Draws":
        """Those of these rows."""
        prompts = [self.prompts[row] for row in rows]
        return self._replace(prompts=prompts, responses=[self.responses[row] for row in rows])


def _hash(row: Mapping[str, Any]) -> str:
    def plain(value: Any) -> str:
        if isinstance(value, Image.Image):  # of which str() gives the place in memory
            return blake2b(value.tobytes()).hexdigest()
        raise ValueError(f"a prompt with a {type(value).__name__} needs an id: give its row one")

    digest = blake2b(json.dumps(row["prompt"], sort_keys=True, default=plain).encode())
    for picture in pictures_of(row):
        digest.update(repr(picture.size).encode() + picture.tobytes())
    return digest.hexdigest()
