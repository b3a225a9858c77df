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


class Ratio(NamedTuple):
    """To the reference's value of the same, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GradientStatistics:
    """Of one rule's gradient over batches, without the bias that few of them would give a square.

    Args:
        batches: how many.
        norm: of the mean gradient; 0 where the estimate of its square is below 0.
        deviation: square root of the total variance of a batch's gradient around the mean.
        signal_to_noise: squared norm of the mean over the total variance.
        cosine: between the mean gradient and the reference's; None where either is not to be told
            from 0.
        alignment: mean cosine between the gradient of one batch and the reference's mean gradient:
            how far a step of given length climbs what the reference climbs; None where that mean
            is not to be told from 0.
        relative_signal_to_noise, relative_alignment: to the reference's; None where either is not
            above 0 and finite with any one batch left out.
        batch_norm: mean norm of a batch's gradient, as gradient clipping sees it.
    """

    batches: int
    norm: float
    deviation: float
    signal_to_noise: float
    cosine: float | None
    alignment: float | None
    relative_signal_to_noise: Ratio | None
    relative_alignment: Ratio | None
    batch_norm: float


def gradient_statistics(
    gradients: Float[Tensor, "B N"], reference: Float[Tensor, "B N"]
) -> GradientStatistics:
    """Of a rule's gradients of B batches beside the `reference` rule's of the same batches."""
    own, cross, other = (
        _products(*pair)
        for pair in ((gradients, gradients), (gradients, reference), (reference, reference))
    )
    square, length = product_of_means(own), product_of_means(other)
    return GradientStatistics(
        batches=len(own),
        norm=max(square, 0.0) ** 0.5,
        deviation=variance(own) ** 0.5,
        signal_to_noise=signal_to_noise(own),
        cosine=product_of_means(cross) / (square * length) ** 0.5
        if square > 0 and length > 0
        else None,
        alignment=alignment(own, cross, other),
        relative_signal_to_noise=_relative(
            lambda kept: signal_to_noise(own[kept]),
            lambda kept: signal_to_noise(other[kept]),
            len(own),
        ),
        relative_alignment=_relative(
            lambda kept: alignment(own[kept], cross[kept], other[kept]),
            lambda kept: alignment(other[kept], other[kept], other[kept]),
            len(own),
        ),
        batch_norm=float(np.sqrt(np.diag(own)).mean()),
    )


def product_of_means(products: np.ndarray) -> float:
    """The mean product of different batches; of a rule's with itself, the square of its mean."""
    count = len(products)
    return float((products.sum() - np.trace(products)) / (count * (count - 1)))


def variance(own: np.ndarray) -> float:
    """Summed over all weights; unbiased."""
    count = len(own)
    return float((np.trace(own) - own.sum() / count) / (count - 1))


def signal_to_noise(own: np.ndarray) -> float:
    """The square of the mean over the variance; infinite without a variance, 0 without either."""
    square, noise = product_of_means(own), variance(own)
    if noise > 0:
        return square / noise
    return np.inf if square > 0 else 0.0


def alignment(own: np.ndarray, cross: np.ndarray, other: np.ndarray) -> float | None:
    """Mean cosine of one batch's gradient with the reference's mean; a gradient of 0 has none, 0.

    Args:
        own, other: products of the rule's gradients with each other, and of the reference's.
        cross: of the rule's, in rows, with the reference's.
    """
    norms, length = np.sqrt(np.diag(own)), product_of_means(other)
    if length <= 0:
        return None
    units = np.divide(cross, norms[:, None], out=np.zeros_like(cross), where=norms[:, None] > 0)
    return product_of_means(units) / length**0.5


def _relative(
    rule: Callable[..., float | None], reference: Callable[..., float | None], count: int
) -> Ratio | None:
    """Of two statistics of the same batches, with a jackknife interval of the ratio's logarithm.

    Tukey (1958): the spread of the statistic with each batch left out; Student's t with one degree
    of freedom less than there are batches.
    """
    every = np.arange(count)
    logs = []
    for kept in (every, *(np.delete(every, one) for one in every)):
        values = [statistic(np.ix_(kept, kept)) for statistic in (rule, reference)]
        if any(value is None or not 0 < value < np.inf for value in values):
            return None
        logs.append(np.log(values[0] / values[1]))
    whole, without = logs[0], np.array(logs[1:])
    error = ((count - 1) / count * np.square(without - without.mean()).sum()) ** 0.5
    reach = t.ppf(0.975, count - 1) * error
    return Ratio(*(float(np.exp(x)) for x in (whole, whole - reach, whole + reach)))


def _products(first: Float[Tensor, "B N"], second: Float[Tensor, "B N"]) -> np.ndarray:
    # in pieces: in double precision the whole would take twice its memory again
    pieces = zip(first.split(PIECE, 1), second.split(PIECE, 1), strict=True)
    return sum(a.double() @ b.double().T for a, b in pieces).numpy()
