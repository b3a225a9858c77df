"""The methods, one paper one file, and our own.

Each scores the same response again under another view of the image, takes the change of every
token's log-probability for its dependency on what the view hides, and turns the dependencies into
one weight per token. ``token_advantages`` multiplies the advantages by them; the loss after that
is GRPO's or DAPO's, unchanged.

=============  ============================================================  ================
``grpo``       every token weighs 1, no other view is scored                 ``base.py``
``pgpo``       a response's advantage moves to its image-dependent tokens    ``pgpo.py``
``vppo``       only the most image-dependent tokens learn, more in some      ``vppo.py``
               responses than in others
``prpo``       image-dependent tokens that noise does not move weigh more;   ``prpo.py``
               our formulation: the paper's formulas are not public
``sightline``  no paper's, our own: dependency on what the image shows, as   ``sightline.py``
               far as enough tokens still count
=============  ============================================================  ================

A method of your own is a subclass of ``Algorithm``; pass it wherever these are accepted.
"""

from .base import Algorithm, ViewScores, token_advantages
from .pgpo import PGPO
from .prpo import PRPO
from .sightline import Sightline
from .vppo import VPPO

ALGORITHMS: dict[str, type[Algorithm]] = {
    "grpo": Algorithm,
    "pgpo": PGPO,
    "vppo": VPPO,
    "prpo": PRPO,
    "sightline": Sightline,
}


def algorithm_class(name: str) -> type[Algorithm]:
    """The algorithm of this name."""
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; known: {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


__all__ = [
    "ALGORITHMS",
    "PGPO",
    "PRPO",
    "VPPO",
    "Algorithm",
    "Sightline",
    "ViewScores",
    "token_advantages",
]
