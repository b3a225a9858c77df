"""Responses of a file, scored in batches: what is the same for all of them, kept together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..data import Limits
from ..draws import Draws
from ..encoding import Encoded, encode
from ..families import family_of
from ..other_images import other_row
from ..scoring import Scored, score_views
from ..view_inputs import pictures_under
from ..views import OtherImage, PixelView, View
from .answered import Answered
from .named_views import CONTROL
from .tokens import Tokens


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

    def shown(
        self, chosen: Sequence[int], rows: Sequence[dict], encoded: Encoded
    ) -> list[dict[str, list[Image.Image]]]:
        """For each of these rows, its pictures as the views showed them.

        Views that show nothing are left out, and controls, which need no looking at.

        Args:
            rows, encoded: as `scored` gave them for `chosen`.
        """
        visible = {n: v for n, v in self.views.items() if not n.startswith(CONTROL)}
        found: list[dict[str, list[Image.Image]]] = [{} for _ in chosen]
        for name, view in visible.items():
            if isinstance(view, OtherImage):
                beside, own = self._with_others(chosen, rows)
                # its partner is in this batch and in none that `draws` were made for
                per_row = pictures_under(self.model, self.processor, beside, name, view, None)
                per_row = [per_row[place] for place in own]
            elif isinstance(view, PixelView):
                draws = self.draws.select(chosen)
                per_row = pictures_under(self.model, self.processor, encoded, name, view, draws)
            else:
                continue
            for pictures, row in zip(per_row, found, strict=True):
                if pictures:
                    row[name] = pictures
        return found

    def _with_others(
        self, chosen: Sequence[int], rows: Sequence[dict]
    ) -> tuple[Encoded, list[int]]:
        """Each row followed by one with another row's picture; and where the rows themselves are.

        `OtherImage` takes the next row of the batch that shows another picture.
        """
        shown, ids, own = [], [], []
        digests = [row.digests for row in self.rows]
        for place, row in zip(chosen, rows, strict=True):
            own.append(len(shown))
            shown.append(row)
            ids.append(self.tokens[place].ids)
            other = other_row(digests, place) if row["images"] else None
            if other is not None:
                partner = self.rows[other]
                asked = [{"role": "user", "content": "?"}]
                picture = partner.row(self.limits)["images"][0]
                shown.append({"id": partner.id, "prompt": asked, "images": [picture]})
                ids.append(self.tokens[place].ids[:1])
        return encode(self.processor, shown, ids).to(self.model.device), own

    def _under_other_images(
        self, views: Mapping[str, View], chosen: Sequence[int], rows: Sequence[dict]
    ) -> Scored:
        """The rows with another row's picture, whatever else is in their batch."""
        encoded, own = self._with_others(chosen, rows)
        wanted = torch.zeros(len(encoded.num_images), dtype=torch.bool)
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


def without_others(rows: Sequence[Answered]) -> list[str]:
    """The ids of rows with images for which no other row has others."""
    digests = [row.digests for row in rows]
    shown = [place for place, row in enumerate(rows) if row.digests]
    if len({digest for row in digests for digest in row}) > 1:  # else none has, and all would look
        shown = [place for place in shown if other_row(digests, place) is None]
    return [rows[place].id for place in shown]
