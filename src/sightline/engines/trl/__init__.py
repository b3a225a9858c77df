"""TRL's GRPOTrainer with token-level credit: one wrapped method, and none of its loss copied."""

from .callbacks import show_readable_progress
from .trainer import PerceptionGRPOTrainer

__all__ = ["PerceptionGRPOTrainer", "show_readable_progress"]
