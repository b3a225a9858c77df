"""Seeded synthetic visual tasks with exact answers and oracle labels on every token."""

from importlib import import_module
from types import ModuleType

NAMES = ("digits",)


def load(name: str) -> ModuleType:
    """The module of the task of this name."""
    if name not in NAMES:
        raise ValueError(f"unknown task {name!r}; known: {', '.join(NAMES)}")
    return import_module(f".{name}", __name__)
