"""A model → numbers: what it answers, how often that is right, and how sure one can be of it.

``sampling`` draws responses; ``conditions`` says which image is shown; ``protocol`` and
``benchmarks/`` fix how the papers' benchmarks are asked, ``frozen_rows`` loads their rows; ``run``
puts it together, a batch at a time; ``summary`` and ``comparison`` turn samples into numbers with
the ``statistics``; ``command`` is ``sightline eval``.
"""

from .sampling import greedy_responses, sampled_responses
from .statistics import auroc, bootstrap_interval, majority_accuracy, mcnemar, pass_at_k

__all__ = [
    "auroc",
    "bootstrap_interval",
    "greedy_responses",
    "majority_accuracy",
    "mcnemar",
    "pass_at_k",
    "sampled_responses",
]
