"""Completion and answer → float. Each function has the form TRL calls: lists in, a list out.

`accuracy` finds the answer (`extraction`), writes it in one spelling (`normalisation`), decides
what exact code can (`golds`, `quantities`), and leaves the rest to math-verify in processes that
may be killed (`workers`, `nursery`). `supervised` runs a reward of your own there.

To mix accuracy and format as PGPO and VPPO do: `reward_funcs=[accuracy, think_format]` with TRL's
`reward_weights=[0.9, 0.1]`, or `Mixed((accuracy, 0.9), (think_format, 0.1))`, which leaves a row
out whose accuracy could not be computed. DAPO's soft overlong punishment is
`trl.rewards.get_soft_overlong_punishment`.
"""

from .easyr1 import easyr1_accuracy, easyr1_format
from .extraction import EXTRACTORS, Extractor, boxed, gold_answer
from .formats import THINK_BOXED, exact_answer, text_of, think_format
from .golds import same_answer
from .kinds import read_answer
from .normalisation import normalise
from .supervised import Mixed, Supervised, supervised
from .verdict import REWARDS, Verdict, Verifier, accuracy, verify
from .workers import Outcome, Workers

__all__ = [
    "EXTRACTORS",
    "REWARDS",
    "THINK_BOXED",
    "Extractor",
    "Mixed",
    "Outcome",
    "Supervised",
    "Verdict",
    "Verifier",
    "Workers",
    "accuracy",
    "boxed",
    "easyr1_accuracy",
    "easyr1_format",
    "exact_answer",
    "gold_answer",
    "normalise",
    "read_answer",
    "same_answer",
    "supervised",
    "text_of",
    "think_format",
    "verify",
]
