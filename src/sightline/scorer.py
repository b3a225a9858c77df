"""Responses of a file, scored in batches: what is the same for all of them, kept together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .data import Limits
from .draws import Draws
from .encoding import Encoded, encode
from .families import family_of
from .responses import Answered, Tokens
from .scoring import Scored, score_views
from .views import OtherImage, View


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores any rows of a file, with numbers that do not depend on which others go with them.

    But for rounding: another batch has another padding.

    Args:
        rows: all of them; methods take places in this list.
        tokens: of the response of each.
        draws: for all of them.
        options: of `score_views`: temperature, exact_kl, extras, chunk_rows.
    """

    model: Any
    processor: Any
    views: Mapping[str, View]
    rows: Sequence[Answered]
    tokens: Sequence[Tokens]
    draws: Draws
    limits: Limits
    options: Mapping[str, Any]

    def encoded(self, chosen: Sequence[int]) -> tuple[list[dict], Encoded]:
        """The rows at these places, with their pictures, and as the model takes them."""
        rows = [self.rows[place].row(self.limits) for place in chosen]
        ids = [self.tokens[place].ids for place in chosen]
        return rows, encode(self.processor, rows, ids).to(self.model.device)

    def scored(self, chosen: Sequence[int]) -> tuple[list[dict], Encoded, Scored]:
        """The rows at these places, as the model takes them, and what each view changes."""
        rows, encoded = self.encoded(chosen)
        alone = {n: view for n, view in self.views.items() if not isinstance(view, OtherImage)}
        found = score_views(
            self.model,
            encoded,
            alone,
            processor=self.processor,
            draws=self.draws.select(chosen),
            unchanged=True,
            **self.options,
        )
        others = {n: view for n, view in self.views.items() if n not in alone}
        if others:
            second = self._under_other_images(others, chosen, rows)
            views, extras = {**found.views, **second.views}, {**found.extras, **second.extras}
            found = found._replace(views={name: views[name] for name in self.views}, extras=extras)
        return rows, encoded, found

    def image_tokens(self, encoded: Encoded) -> list[int]:
        """Image tokens found in the prompt of each row."""
        config, width = self.model.config, encoded.mask.shape[1]
        ids = encoded.inputs["input_ids"]
        prompts = ids[:, : ids.shape[1] - width]
        return family_of(config.model_type).find_image(config, prompts).sum(1).tolist()

    def _under_other_images(
        self, views: Mapping[str, View], chosen: Sequence[int], rows: Sequence[dict]
    ) -> Scored:
        """The rows with the next other picture of the file, whatever else is in their batch.

        `OtherImage` takes the next row of the batch that shows another picture, so each row is
        followed by one that does; that one is not scored.
        """
        shown, ids, own = [], [], []
        for place, row in zip(chosen, rows, strict=True):
            own.append(len(shown))
            shown.append(row)
            ids.append(self.tokens[place].ids)
            if row["images"] and (other := next_other(self.rows, place)) is not None:
                partner, image = self.rows[other[0]], other[1]
                picture = partner.row(self.limits)["images"][image]
                asked = [{"role": "user", "content": "?"}]
                shown.append({"id": partner.id, "prompt": asked, "images": [picture]})
                ids.append(self.tokens[place].ids[:1])
        encoded = encode(self.processor, shown, ids).to(self.model.device)
        wanted = torch.zeros(len(shown), dtype=torch.bool)
        wanted[own] = True
        scored = score_views(
            self.model,
            encoded,
            views,
            processor=self.processor,
            wanted=wanted,
            unchanged=True,
            **self.options,
        )
        return Scored(
            scored.log_probs[own],
            {name: score.select(own) for name, score in scored.views.items()},
            float("nan"),
            {n: {e: table[own] for e, table in more.items()} for n, more in scored.extras.items()},
        )


def next_other(rows: Sequence[Answered], place: int) -> tuple[int, int] | None:
    """The next row, from `place` on and around, with a picture the row has not; and which."""
    own = set(rows[place].digests)
    for step in range(1, len(rows)):
        other = (place + step) % len(rows)
        for image, digest in enumerate(rows[other].digests):
            if digest not in own:
                return other, image
    return None


def without_others(rows: Sequence[Answered]) -> list[str]:
    """The ids of rows for which no other row has another picture."""
    if len({digest for row in rows for digest in row.digests}) > 1:
        shown = [place for place, row in enumerate(rows) if row.digests]
        return [rows[place].id for place in shown if next_other(rows, place) is None]
    return [row.id for row in rows if row.digests]
