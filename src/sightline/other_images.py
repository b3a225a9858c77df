"""Whose images a row is shown in the place of its own: for evaluation and for controls alike."""

from collections.abc import Hashable, Sequence


def other_row(
    digests: Sequence[tuple[Hashable, ...]], row: int, *, as_many: bool = False
) -> int | None:
    """The row whose images stand in for those of `row`; None if no other fits.

    The first one, counted from half of the data away, that has images of which none is the row's
    own. Half away, because versions of one question, drawn alike, and responses to it lie next to
    each other.

    Args:
        digests: of each row's images.
        as_many: whether it must have as many images as `row`.
    """
    own, n = set(digests[row]), len(digests)
    for step in range(n):
        other = (row + n // 2 + step) % n
        there = digests[other]
        fits = not as_many or len(there) == len(digests[row])
        if there and fits and own.isdisjoint(there):
            return other
    return None
