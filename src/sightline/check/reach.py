"""Whether the image reaches the model: what hiding it, or painting it over, changes."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn

from ..encoding import encode
from ..scoring import score_views
from ..views import Blind
from .findings import OK, PROBLEM, Finding

ROWS = 8
WAY_OUT = "look at the processor, the chat template and the model's forward pass"


def reach(
    model: nn.Module, processor: Any, rows: Sequence[dict], responses: Sequence[str]
) -> list[Finding]:
    """The dependency of `responses`, and the noise floor that it has to exceed.

    Nothing is sampled: the responses are given, and their tokens scored where they stand.

    Args:
        rows: each with at least one image.
    """
    device = next(model.parameters()).device
    encoded = encode(processor, rows, responses).to(device)
    # chunks of several rows, of which the noise floor makes single ones
    seen = score_views(model, encoded, {"blind": Blind()}, chunk_rows=4, noise_rows=len(rows))
    floor, tokens = seen.noise_floor, int(encoded.mask.sum())
    hidden = seen.views["blind"].log_ratio[encoded.mask].abs()
    painted = [{**row, "images": [_grey(picture) for picture in row["images"]]} for row in rows]
    grey = score_views(model, encode(processor, painted, responses).to(device), {}, chunk_rows=4)
    moved = (grey.log_probs - seen.log_probs)[encoded.mask].abs()
    return [
        _judged(
            "model.dependency",
            hidden,
            floor,
            f"hiding the image changes the log-probs of {tokens} tokens of given golds",
            "dependency is 0 on all tokens: the image does not reach the model",
        ),
        _judged(
            "model.pixels",
            moved,
            floor,
            "painting the image grey changes them",
            "a grey picture gives the same log-probs on all tokens: the pixels do not reach the "
            "model, only the places of their tokens",
        ),
        Finding(
            OK,
            "model.noise-floor",
            f"other batches move log-probs and log-ratios by up to {floor:.2g} nats: what lies "
            "below says nothing",
            numbers={"noise_floor": floor},
        ),
    ]


def _judged(kind: str, change: torch.Tensor, floor: float, fine: str, wrong: str) -> Finding:
    most, median = float(change.max()), float(change.median())
    numbers = {"largest": most, "median": median, "noise_floor": floor}
    # written so that NaN is a problem
    if not most > floor:
        return Finding(
            PROBLEM, kind, f"{wrong} (at most {most:.2g} nats)", WAY_OUT, numbers=numbers
        )
    what = f"{fine}: by {median:.2g} nats in the middle, {most:.2g} at most"
    return Finding(OK, kind, what, numbers=numbers)


def _grey(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, (128, 128, 128))
