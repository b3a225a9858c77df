"""`sightline check`: what would go wrong in a run, found before it starts.

``environment`` looks at packages and GPU, ``rows`` at the data, ``golds`` at the verifier,
``prompts`` at what the processor makes of each row, ``reach`` at whether the image reaches the
model, ``cost`` at memory and time. Each returns ``findings``; ``page`` shows them, ``command`` puts
it all together.
"""

from .command import check
from .findings import OK, PROBLEM, WARNING, Finding

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "check"]
