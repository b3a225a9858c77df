"""How this process computes, and what of other libraries' talk reaches the user."""

import warnings

import torch
from transformers.utils.logging import disable_progress_bar


def use_threads(count: int) -> None:
    """Compute on `count` CPU threads; the last bits of every number depend on how many."""
    torch.set_num_threads(count)
    # Adam's moments of unused tokens decay into denormal numbers, on which a CPU is many times
    # slower: whole steps took ten times as long.
    torch.set_flush_denormal(True)


def quiet_libraries() -> None:
    """Keep other libraries' deprecations and progress bars out of what the user reads."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    disable_progress_bar()
