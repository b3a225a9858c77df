"""TRL's GRPOTrainer with token-level credit and exact resume, and none of its loss copied."""

from .callbacks import show_readable_progress
from .dynamic_sampling import DynamicSampling
from .guards import StopOnSignal
from .resume import Whole, find_whole
from .trainer import PerceptionGRPOTrainer

__all__ = [
    "DynamicSampling",
    "PerceptionGRPOTrainer",
    "StopOnSignal",
    "Whole",
    "find_whole",
    "show_readable_progress",
]
