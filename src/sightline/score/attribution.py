"""Which cells of an image a token hangs on: each is hidden in turn, the response scored again.

What is measured is what happens when one cell is missing. Two cells that say the same thing hide
each other's part, and what only several say together shows in none: the changes do not add up to
what the whole image is worth, which is therefore measured as well.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..encoding import Encoded
from ..families import family_of
from ..scoring import score_views
from ..view_inputs import normalization


class Sweep(NamedTuple):
    """What hiding parts of one image does to a response.

    Args:
        grid: rows and columns of what is hidden at a time.
        change: ``log p(y | image with that part hidden) - log p(y | image)`` per part and token, in
            nats; negative where the part helped.
        whole: the same with the whole image hidden.
        noise_floor: how far log-probs of the untouched image differ between the batches, in nats;
            a change below it says nothing.
        unchanged: parts that look like the fill already, for which a change of 0 says nothing.
        passes: responses that were scored, one under one image each.
    """

    grid: tuple[int, int]
    change: Float[Tensor, "rows columns T"]
    whole: Float[Tensor, " T"]
    noise_floor: float
    unchanged: int
    passes: int


def sweep_image(
    model: Any,
    processor: Any,
    response: Encoded,
    image: int,
    *,
    fill: str = "mean",
    block: int = 1,
    temperature: float = 1.0,
    batch_size: int = 8,
) -> Sweep:
    """Hide each block of cells of one image in turn, the other images as they are.

    A cell is what becomes one image token. Each batch holds the untouched image once, and a change
    is taken against the one of its own batch, so that it is no difference between layouts.

    Args:
        model: a Hugging Face model whose images may be changed; see `Family.map_images`.
        response: a single row.
        image: place among the row's images.
        fill: ``"mean"``, the image's mean colour, or ``"black"``.
        block: side of what is hidden at a time, in cells.
        batch_size: responses in a forward pass, the untouched one included; at least 2.
    """
    if len(response.num_images) != 1 or not 0 <= image < response.num_images[0]:
        raise ValueError(
            f"attribution takes one response and a place among its images, got "
            f"{response.num_images} images and place {image}"
        )
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2 for attribution, got {batch_size}")
    grid = _grid(model, processor, response, image, block)
    parts = grid[0] * grid[1]
    hidden = [*range(parts), parts]  # the last is the whole image
    changes, clean, same = [], [], 0
    for start in range(0, len(hidden), batch_size - 1):
        chosen = hidden[start : start + batch_size - 1]
        log_probs, left = _score(
            model, processor, response, image, chosen, grid, fill, block, temperature
        )
        clean.append(log_probs[0])
        changes.append(log_probs[1:] - log_probs[0])
        same += left
    alone, _ = _score(model, processor, response, image, [], grid, fill, block, temperature)
    references = torch.stack([*clean, alone[0]])
    found = torch.cat(changes)
    return Sweep(
        grid,
        found[:parts].view(*grid, -1),
        found[parts],
        float((references - references[0]).abs().max()),
        same,
        len(hidden) + len(clean) + 1,
    )


def sweep_cost(model: Any, response: Encoded, block: int, batch_size: int) -> int:
    """Responses that a sweep over all images of a row scores, for families like Qwen's."""
    family = family_of(model.config.model_type)
    total = 0
    for cells in family.count_features(model.config, response.inputs) or []:
        parts = ceil(cells / block**2) + 1
        total += parts + ceil(parts / (batch_size - 1)) + 1
    return total


def attribution_record(
    record: Mapping[str, Any], image: int, sweep: Sweep, fill: str, block: int, chosen: list[int]
) -> dict[str, Any]:
    """A line of `attribution.jsonl`."""
    return {
        "id": record["id"],
        "image": image,
        "grid": list(sweep.grid),
        "block": block,
        "fill": fill,
        "noise_floor": sweep.noise_floor,
        "passes": sweep.passes,
        "unchanged": sweep.unchanged,
        "tokens": [
            {
                "index": index,
                "text": record["tokens"][index],
                "whole": float(sweep.whole[index]),
                "change": sweep.change[:, :, index].tolist(),
                "strongest": strongest(sweep.change[:, :, index], sweep.noise_floor),
            }
            for index in chosen
        ],
    }


def strongest(change: Float[Tensor, "rows columns"], floor: float) -> list[list[int]]:
    """Row and column of the cell that changes a token most, and of all that are equal to it.

    Equal are those within `floor` of it in size, in the order of rows; none is there where nothing
    is above `floor`.
    """
    sizes = change.abs()
    if not sizes.max() > floor:
        return []
    return ((sizes > floor) & (sizes >= sizes.max() - floor)).nonzero().tolist()


def _grid(model: Any, processor: Any, response: Encoded, image: int, block: int) -> tuple[int, int]:
    sizes: list[tuple[int, int]] = []

    def measure(_index: int, picture: Tensor, patch: int, merge: int) -> Tensor:
        side = patch * merge * block
        sizes.append((ceil(picture.shape[1] / side), ceil(picture.shape[2] / side)))
        return picture

    _map(model, processor, response.inputs, measure)
    return sizes[image]


def _score(
    model: Any,
    processor: Any,
    response: Encoded,
    image: int,
    parts: Sequence[int],
    grid: tuple[int, int],
    fill: str,
    block: int,
    temperature: float,
) -> tuple[Float[Tensor, "N T"], int]:
    """Log-probs of the untouched response and of one with each part hidden, in a single batch.

    Returns:
        Them, and how many parts looked like the fill already.
    """
    images, unchanged = response.num_images[0], 0
    copies = response.select([0] * (1 + len(parts)))

    def hide(index: int, picture: Tensor, patch: int, merge: int) -> Tensor:
        nonlocal unchanged
        copy, place = divmod(index, images)
        if copy == 0 or place != image:
            return picture
        part, side = parts[copy - 1], patch * merge * block
        after = picture.clone()
        colour = picture.mean((1, 2)) if fill == "mean" else picture.new_zeros(3)
        row, column = divmod(part, grid[1])
        whole = part == grid[0] * grid[1]
        rows = slice(None) if whole else slice(row * side, (row + 1) * side)
        columns = slice(None) if whole else slice(column * side, (column + 1) * side)
        after[:, rows, columns] = colour[:, None, None]
        # as map_images tells rounding from change
        unchanged += not whole and bool(((after - picture).abs() <= 1e-6).all())
        return after

    inputs = _map(model, processor, copies.inputs, hide)
    hidden = Encoded(inputs, copies.response_ids, copies.mask, copies.num_images)
    scored = score_views(
        model, hidden, {}, temperature=temperature, chunk_rows=len(copies.num_images)
    )
    return scored.log_probs, unchanged


def _map(
    model: Any,
    processor: Any,
    inputs: dict[str, Tensor],
    change: Callable[[int, Tensor, int, int], Tensor],
) -> dict[str, Tensor]:
    family = family_of(model.config.model_type)
    return family.map_images(model, inputs, normalization(processor), change)
