"""Views as a command line names them, and the controls without which their numbers mean little."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..algorithms import algorithm_class
from ..families import Family
from ..views import (
    AddNoise,
    Blind,
    GaussianBlur,
    Gray,
    MaskPatches,
    OtherImage,
    SameImage,
    TextOnlyPrompt,
    View,
)

KINDS: dict[str, type[View]] = {
    "blind": Blind,
    "text-only": TextOnlyPrompt,
    "patches": MaskPatches,
    "noise": AddNoise,
    "blur": GaussianBlur,
    "grey": Gray,
    "other": OtherImage,
}
NUMBERS: dict[Any, type[int] | type[float]] = {float: float, int | None: int}  # by type of field
CONTROL = "control:"  # what the names of controls begin with


def parse_views(text: str) -> dict[str, View]:
    """Views by name, from such as ``blind,patches:probability=0.6:unit=cell``.

    The text of a view is its name, so that two of one kind can stand side by side, and so that
    each has random draws of its own.
    """
    views: dict[str, View] = {}
    for name in text.split(","):
        if name in views:
            raise ValueError(f"view {name!r} is asked for twice")
        views[name] = _view_of(name)
    return views


def asked_views(text: str, algorithms: str) -> dict[str, View]:
    """The views in `text`, and those that the weights of these algorithms need."""
    views = parse_views(text)
    for name in filter(None, algorithms.split(",")):
        for view_name, view in algorithm_class(name)().views().items():
            if views.setdefault(view_name, view) != view:
                raise ValueError(f"--weights {name} needs the view {view_name} to be {view}")
    return views


def without_other_images(views: Mapping[str, View], missing: Sequence[str]) -> dict[str, View]:
    """The views that can be had where rows have no other's picture; says which are left out.

    Args:
        missing: the ids of those rows.

    Raises:
        ValueError: a view that was asked for by name is not among them.
    """
    kept = {name: view for name, view in views.items() if not isinstance(view, OtherImage)}
    for name in views:
        if name in kept or not missing:
            continue
        if not name.startswith(CONTROL):
            raise ValueError(
                f"view {name!r} needs another image for each row: there is none for {missing[0]!r}"
            )
        print(
            f"{name} is left out: for {len(missing)} row(s), the first {missing[0]!r}, all other "
            "rows show the same images or none"
        )
    return kept if missing else dict(views)


def controls_for(views: Mapping[str, View], family: Family) -> dict[str, View]:
    """The controls of `views` that the model's family can carry out.

    The seeds are other draws of the first random view, or of `MaskPatches` where there is none.
    """
    same: dict[str, View] = {CONTROL + "same": SameImage()}
    if not family.changes_pixels:
        return same
    random = [view for view in views.values() if isinstance(view, MaskPatches | AddNoise)]
    drawn = random[0] if random else MaskPatches()
    return {
        **same,
        CONTROL + "blank": Gray(),
        CONTROL + "other": OtherImage(),
        CONTROL + "seed-1": drawn,
        CONTROL + "seed-2": drawn,
    }


def _view_of(text: str) -> View:
    kind, *parameters = text.split(":")
    if kind not in KINDS:
        raise ValueError(f"unknown view {kind!r}; known: {', '.join(KINDS)}")
    known = {field.name: field.type for field in fields(KINDS[kind])}
    given = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"view {text!r}: {parameter!r} is no parameter of {kind}; it has "
                f"{', '.join(known) or 'none'}, written as {kind}:name=value"
            )
        try:
            given[name] = NUMBERS.get(known[name], str)(value)
        except ValueError as error:
            kind = "a number" if known[name] is float else "a whole number"
            raise ValueError(f"view {text!r}: {name} must be {kind}, got {value!r}") from error
    return KINDS[kind](**given)
