"""How a benchmark is asked and judged, frozen in a file: words, rows and dice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ..prompts import PROMPTS
from ..rewards import EXTRACTORS
from ..rewards.verdict import GOLDS_VERSION

FOLDER = Path(__file__).parent / "benchmarks"


@dataclass(frozen=True)
class Decoding:
    """How responses are drawn; the defaults are the papers'.

    Args:
        n: responses per question.
        temperature: 0 for the most likely token, and then `n` must be 1.
    """

    n: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 2048

    def __post_init__(self):
        for name in ("n", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.temperature == 0 and self.n > 1:
            raise ValueError(
                f"at temperature 0 all responses are the same: n must be 1, got {self.n}"
            )


@dataclass(frozen=True)
class FrozenSource:
    """Where the rows are.

    Args:
        dataset: a data set of the Hub, or a folder that is a copy of it.
        revision: its commit; None where the papers name none. What was loaded is recorded.
        file: of rows in ShareGPT form, parquet or JSON.
        images: an archive in the data set, or a folder of it, that holds the rows' pictures.
        subset, split: of the data set, for who loads it with `datasets`; None where they are not
            known. The rows are read from the file itself, which needs neither.
    """

    dataset: str
    file: str
    images: str
    revision: str | None = None
    subset: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Protocol:
    """One benchmark.

    Args:
        name: by which it is chosen; also the beginning of its rows' ids, ``name-00017``.
        title: for tables.
        papers: that report it.
        source: where the rows are.
        rows: how many there are; another number is refused.
        row_ids: those that count, where they are fewer than the file's; None for all of it.
        prompt: name and version of the format.
        extractor: name and version.
        golds: version of what counts as the same answer.
        decoding: how responses are drawn.
        note: what is not known of it, or otherwise than in the papers.
    """

    name: str
    title: str
    papers: Sequence[str]
    source: FrozenSource
    rows: int
    prompt: Mapping[str, Any]
    extractor: Mapping[str, Any]
    golds: int
    decoding: Decoding
    row_ids: Sequence[str] | None = None
    note: str = ""

    def __post_init__(self):
        prompt, extractor = PROMPTS.get(self.prompt["name"]), EXTRACTORS[self.extractor["name"]]
        here = {
            "prompt": prompt and {"name": prompt.name, "version": prompt.version},
            "extractor": {"name": extractor.name, "version": extractor.version},
            "golds": GOLDS_VERSION,
        }
        for part, found in here.items():
            if (frozen := getattr(self, part)) != found:
                raise ValueError(
                    f"benchmark {self.name!r} is frozen with {part} {frozen}, and this version of "
                    f"Sightline has {found}: numbers would not be comparable"
                )

    def about(self) -> dict[str, Any]:
        """What is emitted with every number."""
        return asdict(self)


def known_benchmarks() -> list[str]:
    """The names of the benchmarks that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_protocol(name: str) -> Protocol:
    """The benchmark of this name, or that of a YAML file.

    Raises:
        ValueError: it is unknown, its file is not a protocol, or frozen with other versions.
    """
    path = FOLDER / f"{name}.yaml" if name in known_benchmarks() else Path(name).expanduser()
    if not path.is_file():
        raise ValueError(
            f"unknown benchmark {name!r}; known: {', '.join(known_benchmarks())}, or a YAML file"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"it holds {type(content).__name__}, not a mapping")
        inner = {"source": FrozenSource, "decoding": Decoding}
        return Protocol(**content | {key: kind(**content[key]) for key, kind in inner.items()})
    except (yaml.YAMLError, KeyError, TypeError) as error:
        wanted = ", ".join(field.name for field in fields(Protocol))
        raise ValueError(f"{path} is no protocol with {wanted}: {error}") from error
