"""What `sightline score` is asked for."""

import argparse
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..rewards import EXTRACTORS
from .token_rules import check_rule

FILLS = ("mean", "black")
DTYPES = ("auto", "float32", "bfloat16", "float16")
BAD_ROWS = ("error", "skip-and-list")
# where files lie, and which of them are taken: nothing that a number hangs on
PLACES = {
    *("responses", "images", "columns", "output_dir"),
    *("bad_rows", "max_pixels", "allow_outside_root"),
}


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """The flags of `sightline score`, of the same names."""

    model: str = _flag("", "tiny, a folder, or a model of the Hub")
    responses: str = _flag("", "JSONL, JSON, CSV or parquet with prompts, images and responses")
    images: str = _flag("", "folder of its image paths; by default that of the file")
    columns: str = _flag("", "columns that are not known, as response=text,gold=label or JSON")
    allow_outside_root: bool = _flag(False, "let image paths lead out of that folder")
    output_dir: str = _flag("", "run folder; a run of the same request in it goes on")
    views: str = _flag("blind", "such as blind,patches:probability=0.6,noise:std=0.2")
    controls: bool = _flag(False, "also score the views that say what the numbers are worth")
    exact_kl: bool = _flag(False, "the KL over the whole vocabulary beside the sampled one")
    extras: bool = _flag(False, "with --exact-kl: entropies and further divergences")
    temperature: float = _flag(1.0, "the one the responses were sampled at")
    weights: str = _flag("", "algorithms whose token weights to write, such as pgpo,vppo,prpo")
    generate: int = _flag(0, "responses to sample from the model for each question")
    max_new_tokens: int = _flag(1024, "of a sampled response")
    extractor: str = _flag("boxed-last", "where a response has its answer, for the verifier")
    prompt: str = _flag("none", "format put around each question")
    attribute: str = _flag("", "tokens to attribute to image cells: top:K, text:REGEX, label:NAME")
    attribute_top: int = _flag(0, "short for --attribute top:K")
    attribute_responses: int = _flag(10, "how many responses to attribute, from the first on")
    attribute_fill: str = _flag("mean", f"what hides a cell, one of: {', '.join(FILLS)}")
    attribute_block: int = _flag(1, "side of what is hidden at a time, in merged cells")
    batch_size: int = _flag(8, "responses in a forward pass")
    max_pixels: int = _flag(50_000_000, "of an image; a larger one is a bad row")
    bad_rows: str = _flag("error", f"one of: {', '.join(BAD_ROWS)}")
    dtype: str = _flag("auto", f"of the model's weights, one of: {', '.join(DTYPES)}")
    device: str = _flag("", "such as cuda or cpu; by default a GPU if there is one")
    threads: int = _flag(2, "of the CPU")
    seed: int = _flag(0, "of everything that is drawn")

    def __post_init__(self):
        for name in ("model", "responses", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"{flag(name)} is needed")
        for name in ("batch_size", "max_new_tokens", "attribute_responses", "attribute_block"):
            self._check_least(name, 1)
        for name in ("threads", "max_pixels"):
            self._check_least(name, 1)
        for name in ("generate", "attribute_top", "seed"):
            self._check_least(name, 0)
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"--temperature must be above 0 and finite, got {self.temperature}")
        for name, choices in {
            "attribute_fill": FILLS,
            "dtype": DTYPES,
            "bad_rows": BAD_ROWS,
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{flag(name)} must be one of {choices}, got {getattr(self, name)!r}"
                )
        if self.attribute and self.attribute_top:
            raise ValueError("--attribute-top is short for --attribute top:K: give one of them")
        if self.extractor not in EXTRACTORS:
            raise ValueError(
                f"--extractor must be one of {', '.join(EXTRACTORS)}, got {self.extractor!r}"
            )
        if self.token_rule:
            check_rule(self.token_rule)
            self._check_least("batch_size", 2, " for --attribute")
        if self.extras and not self.exact_kl:
            raise ValueError("--extras needs --exact-kl: both come from one pass over the head")

    @property
    def token_rule(self) -> str:
        """Which tokens are attributed, or ""."""
        return f"top:{self.attribute_top}" if self.attribute_top else self.attribute

    def decides(self) -> dict[str, Any]:
        """The part that decides the numbers: not where files lie."""
        return {name: value for name, value in asdict(self).items() if name not in PLACES}

    def _check_least(self, name: str, least: int, where: str = "") -> None:
        if getattr(self, name) < least:
            raise ValueError(
                f"{flag(name)} must be at least {least}{where}, got {getattr(self, name)}"
            )


def flag(name: str) -> str:
    """How a field is written on the command line."""
    return "--" + name.replace("_", "-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of a request."""
    for item in fields(ScoreRequest):
        names = (["-o"] if item.name == "output_dir" else []) + [flag(item.name)]
        text = item.metadata["help"]
        if item.type is bool:
            parser.add_argument(*names, action="store_true", help=text)
        else:
            kind: Any = item.type
            parser.add_argument(*names, type=kind, default=item.default, help=text)


def request_from(args: argparse.Namespace) -> ScoreRequest:
    """The request in parsed flags."""
    return ScoreRequest(**{item.name: getattr(args, item.name) for item in fields(ScoreRequest)})
