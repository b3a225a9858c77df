"""YAML of suites and hypotheses: what would be lost or misread is refused by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands twice", node.value[place][0].start_mark
                )
        return super().construct_mapping(node, deep)


def text_of(path: Path) -> str:
    """What stands in a file, in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def read_yaml(what: str, text: str) -> Any:
    """The content of `text`; `what` names it in an error."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{what} is not YAML: {error}") from error


def mapping(what: str, content: Any, known: Sequence[str], needed: Sequence[str]) -> dict[str, Any]:
    """A mapping that has no other keys than the `known` ones, and something under the `needed`."""
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be a mapping, got {content!r}")
    for key in content:
        if key not in known:
            raise ValueError(f"{what}: unknown key {key!r}; known: {', '.join(known)}")
    for key in needed:
        if not content.get(key):
            raise ValueError(f"{what} lacks {key}")
    return content


def names(what: str, content: Any) -> list[str]:
    """A list of different names."""
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{what} must be a list of names, got {content!r}")
    for place, name in enumerate(content):
        if name in content[:place]:
            raise ValueError(f"{what} names {name!r} twice")
    return content


def number(what: str, content: Any) -> float:
    """A finite number; 1e-4 too, which YAML takes for text."""
    try:
        value = float("nan" if isinstance(content, bool) else content)
    except (TypeError, ValueError):
        value = float("nan")
    if not abs(value) < float("inf"):
        raise ValueError(f"{what} must be a number, got {content!r}")
    return value
