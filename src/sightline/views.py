"""What the model gets to see of the image."""

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """One way of showing the image; a subclass says which, its fields how.

    A view never changes the text, the position ids or the response that is scored.
    """


@dataclass(frozen=True)
class Blind(View):
    """Nothing of the image: no position attends to an image token.

    The token sequence is the same, its text tokens keep their position ids, and the keys of all
    positions that carry image features are out of reach of every query; the delimiters around
    the image stay visible. PGPO (arXiv:2604.01840), App. A.1. The scorer carries this view out.

    Args:
        by: ``"drop"`` leaves the image tokens out and keeps the position ids of the rest, which is
            shorter and needs no vision tower; ``"mask"`` keeps them, hidden from attention. Both
            give the same log-probs where positions mix by attention alone.
    """

    by: str = "drop"

    def __post_init__(self):
        if self.by not in ("drop", "mask"):
            raise ValueError(f"by must be 'drop' or 'mask', got {self.by!r}")
