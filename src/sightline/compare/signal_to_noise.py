"""Signal and noise of a gradient that differs from batch to batch, beside a reference's.

All of it follows from inner products: those of a rule's gradients of all batches with each other,
and with the reference's of the same batches. Products of different batches know nothing of one
batch's noise, so their mean is the product of the mean gradients, without bias.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import t
from torch import Tensor

PIECE = 2**16  # weights whose products are taken at once
ROUNDING = 1e-12  # of a sum of squares: a variance below it is none


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval over batches."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GradientStatistics:
    """Of one rule's gradient over batches.

    The squares of `norm` and `deviation` are without bias; what is made of several of them is so
    for many batches. Of few, a cosine may come out above 1.

    Args:
        batches: how many.
        norm: of the mean gradient; 0 where the estimate of its square is below 0.
        deviation: square root of the total variance of a batch's gradient around the mean.
        batch_norm: mean norm of a batch's gradient, as gradient clipping sees it.
        signal_to_noise: squared norm of the mean over the total variance; None without a variance.
        cosine: between the mean gradient and the reference's; None where the estimate of the square
            of either is not above 0.
        alignment: mean cosine between the gradient of one batch and the reference's mean gradient:
            how far a step of given length climbs what the reference climbs. A gradient of 0 climbs
            nothing, and counts as 0. None where the estimate of the square of that mean is not
            above 0, with any one batch left out.
        relative_signal_to_noise, relative_alignment: to the reference's; None where there is no
            such value or the reference's is not above 0, with any one batch left out.
    """

    batches: int
    norm: float
    deviation: float
    batch_norm: float
    signal_to_noise: float | None
    cosine: float | None
    alignment: Estimate | None
    relative_signal_to_noise: Estimate | None
    relative_alignment: Estimate | None


def gradient_statistics(
    gradients: Float[Tensor, "B N"], reference: Float[Tensor, "B N"]
) -> GradientStatistics:
    """Of a rule's gradients of B batches beside the `reference` rule's of the same batches."""
    own, cross, other = (
        _products(*pair)
        for pair in ((gradients, gradients), (gradients, reference), (reference, reference))
    )
    lengths = [max(product_of_means(products), 0.0) ** 0.5 for products in (own, other)]
    count = len(own)
    return GradientStatistics(
        batches=count,
        norm=lengths[0],
        deviation=variance(own) ** 0.5,
        batch_norm=float(np.sqrt(np.diag(own)).mean()),
        signal_to_noise=signal_to_noise(own),
        cosine=product_of_means(cross) / (lengths[0] * lengths[1]) if all(lengths) else None,
        alignment=_jackknife(lambda kept: alignment(own[kept], cross[kept], other[kept]), count),
        relative_signal_to_noise=_jackknife(
            lambda kept: _ratio(signal_to_noise(own[kept]), signal_to_noise(other[kept])), count
        ),
        relative_alignment=_jackknife(
            lambda kept: _ratio(
                alignment(own[kept], cross[kept], other[kept]),
                alignment(other[kept], other[kept], other[kept]),
            ),
            count,
        ),
    )


def product_of_means(products: np.ndarray) -> float:
    """The mean product of different batches; of a rule's with itself, the square of its mean."""
    count = len(products)
    return float((products.sum() - np.trace(products)) / (count * (count - 1)))


def variance(own: np.ndarray) -> float:
    """Summed over all weights; unbiased."""
    count, squares = len(own), np.trace(own)
    found = float((squares - own.sum() / count) / (count - 1))
    return found if found > ROUNDING * squares else 0.0


def signal_to_noise(own: np.ndarray) -> float | None:
    """The square of the mean over the variance; None without a variance."""
    noise = variance(own)
    return product_of_means(own) / noise if noise else None


def alignment(own: np.ndarray, cross: np.ndarray, other: np.ndarray) -> float | None:
    """Mean cosine of one batch's gradient with the reference's mean gradient, by other batches.

    Args:
        own, other: products of the rule's gradients with each other, and of the reference's.
        cross: of the rule's, in rows, with the reference's.
    """
    norms, square = np.sqrt(np.diag(own))[:, None], product_of_means(other)
    if square <= 0:
        return None
    units = np.divide(cross, norms, out=np.zeros_like(cross), where=norms > 0)
    return product_of_means(units) / square**0.5


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference or reference < 0 else value / reference


def _jackknife(
    statistic: Callable[[tuple[np.ndarray, ...]], float | None], count: int
) -> Estimate | None:
    """A statistic of batches, with an interval from its spread with each of them left out.

    Tukey (1958), with Student's t of one degree of freedom less than there are batches.
    """
    every = np.arange(count)
    values = [
        statistic(np.ix_(kept, kept)) for kept in (every, *(np.delete(every, i) for i in every))
    ]
    told = [value for value in values if value is not None]
    if len(told) < len(values):
        return None
    whole, without = told[0], np.array(told[1:])
    error = ((count - 1) / count * np.square(without - without.mean()).sum()) ** 0.5
    reach = float(t.ppf(0.975, count - 1) * error)
    return Estimate(whole, whole - reach, whole + reach)


def _products(first: Float[Tensor, "B N"], second: Float[Tensor, "B N"]) -> np.ndarray:
    # in pieces: in double precision the whole would take twice its memory again
    pieces = zip(first.split(PIECE, 1), second.split(PIECE, 1), strict=True)
    return np.sum([(a.double() @ b.double().T).numpy() for a, b in pieces], axis=0)
