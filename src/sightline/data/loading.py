"""`load_rows`: every row is used, or listed with the reason why not."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..prompts import NONE, Prompt
from .dialects import Columns
from .images import MAX_PIXELS, Limits, cells_of, content
from .sources import open_source
from .survey import BadRow, column_names, look, wrong_image
from .tables import build

POLICIES = ("error", "skip-and-list")
SHOWN = 20  # bad rows in a message; a file has them all


@dataclass(frozen=True, eq=False)
class Rows:
    """Data that is ready: what is used, and an account of the rest.

    Args:
        dataset: the `datasets.Dataset` to train on. Columns `id`, `prompt` (chat messages),
            `images`, `answer` (text) and all others of the data. Pictures are decoded when a row
            is read; one that fails then raises ValueError with row, path and reason.
        source: what it was loaded from.
        columns: which column was taken for what.
        left_out: columns that the rows do not keep.
        rows_in: how many there were: as many as are used and bad together.
        bad: those that are not used.
        images: how many used rows have so many images.
        prompt: the format of the questions.
        limits: of the images.
    """

    dataset: Any
    source: str
    columns: Columns
    left_out: Sequence[str]
    rows_in: int
    bad: Sequence[BadRow]
    images: Mapping[int, int]
    prompt: Prompt
    limits: Limits

    def __len__(self):
        return len(self.dataset)

    def description(self) -> str:
        """One line: what was loaded, and what was taken for what."""
        several = sum(count for number, count in self.images.items() if number > 1)
        return (
            f"data: {self.source}: {len(self):,} rows used, {len(self.bad):,} listed as bad; "
            f"{self.images.get(0, 0):,} without an image, {several:,} with several; {self.taken()}"
        )

    def taken(self) -> str:
        """What was taken for what, and the prompt format."""
        taken = [f"{role} ← {name}" for role, name in self.columns._asdict().items() if name]
        taken += [] if self.columns.id else ["id ← a hash of the row"]
        left_out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{', '.join(taken)}{left_out}; prompt format {self.prompt.name}"

    def about(self) -> dict[str, Any]:
        """What `run.json` says of the data; reads all of it, for its fingerprint."""
        return {
            "source": self.source,
            "columns": self.columns._asdict(),
            "left_out": list(self.left_out),
            "rows": {"in": self.rows_in, "used": len(self), "bad": len(self.bad)},
            "max_pixels": self.limits.max_pixels,
            "prompt": self.prompt.about(),
            "fingerprint": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """A hash of the rows in their order: of every column, and of the bytes of every image.

        Paths do not count, so that data may move. Prompts count as they are shown to the model.
        """
        digest = hashlib.blake2b(digest_size=16)
        for row in self.undecoded():
            cells = cells_of(row.pop("images"))
            text = json.dumps(row, sort_keys=True, default=repr)
            digest.update(hashlib.blake2b(text.encode()).digest())
            digest.update(len(cells).to_bytes(8, "big"))
            for cell in cells:
                digest.update(hashlib.blake2b(content(cell, self.limits)).digest())
        return digest.hexdigest()

    def undecoded(self) -> Iterator[dict[str, Any]]:
        """The rows with their image cells as they are stored."""
        return iter(self.dataset.with_format(None))


def load_rows(
    source: Any,
    *,
    split: str | None = None,
    prompt: Prompt = NONE,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    bad_rows: str = "error",
    folder: str | Path | None = None,
    decode_all: bool | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_outside_root: bool = False,
) -> Rows:
    """Load rows from wherever they are, and print what was taken for what.

    Args:
        source: a file (JSONL, JSON, CSV, parquet), a folder with such files, with images and their
            `metadata.jsonl`, or of `save_to_disk`, a Hub id, a `datasets.Dataset`, or a list of
            dicts. A path or id may end in ``@split``.
        split: the same; without one it is ``train``, or the only split there is.
        prompt: the format put around each question.
        root: the folder that image paths are relative to; by default that of the file.
        columns: the data's own name for `prompt`, `images`, `answer` or `id`, where it is not
            recognised.
        bad_rows: ``"error"``, or ``"skip-and-list"``, which needs a `folder`.
        folder: an existing one, where `bad_rows.jsonl` is written with a line for each row that is
            not used.
        decode_all: decode every image now; by default only where bad rows are to be skipped, as
            a picture that fails later stops the run.
        max_pixels: of one image.
        allow_outside_root: whether image paths may lead out of `root`.

    Raises:
        ValueError: a row is bad (the first 20 are named), or all of them are.
    """
    if bad_rows not in POLICIES:
        raise ValueError(f"bad_rows must be one of {POLICIES}, got {bad_rows!r}")
    if bad_rows == "skip-and-list" and folder is None:
        raise ValueError("bad_rows='skip-and-list' needs a folder for its list")
    everything = bad_rows == "skip-and-list" if decode_all is None else decode_all
    rows = find_rows(
        source,
        split=split,
        prompt=prompt,
        root=root,
        columns=columns,
        decode_all=everything,
        max_pixels=max_pixels,
        allow_outside_root=allow_outside_root,
    )
    if folder is not None:
        write_bad_rows(Path(folder), rows.bad)
    if rows.bad and (bad_rows == "error" or not len(rows)):
        raise ValueError(_complaint(rows))
    if os.environ.get("RANK", "0") == "0":
        print(rows.description())
    return rows


def find_rows(
    source: Any,
    *,
    split: str | None = None,
    prompt: Prompt = NONE,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    decode_all: bool = False,
    max_pixels: int = MAX_PIXELS,
    allow_outside_root: bool = False,
) -> Rows:
    """As `load_rows`, but bad rows are only listed in the result; prints and writes nothing."""
    found = open_source(source, split)
    if not len(found.rows):
        raise ValueError(f"{found.name} holds no rows")
    names = column_names(found)
    chosen = Columns.of(names, columns)
    limits = Limits(Path(root) if root else found.root, max_pixels, allow_outside_root)
    survey = look(found, chosen, names, prompt, limits, decode_all)
    rows = Rows(
        build(found, chosen, names, survey, limits),
        found.name,
        chosen,
        chosen.left_out(names),
        len(found.rows),
        survey.bad,
        dict(sorted(Counter(survey.images).items())),
        prompt,
        limits,
    )
    assert rows.rows_in == len(rows) + len(rows.bad), "a row was lost"
    return rows


def check_images(rows: Rows) -> list[BadRow]:
    """Decode every image of `rows`; the ones that fail, a row named once."""
    bad = []
    for number, row in enumerate(rows.undecoded()):
        wrong = wrong_image(cells_of(row["images"]), rows.limits, everything=True)
        if wrong:
            bad.append(BadRow(row["id"], f"row {number} of those used", *wrong))
    return bad


def write_bad_rows(folder: Path, bad: Sequence[BadRow]) -> Path:
    """Write `bad_rows.jsonl`, whole or not at all; every process writes the same."""
    path = folder / "bad_rows.jsonl"
    draft = folder / f"{path.name}.{os.getpid()}.tmp"
    draft.write_text("".join(json.dumps(asdict(row)) + "\n" for row in bad), encoding="utf-8")
    os.replace(draft, path)
    return path


def _complaint(rows: Rows) -> str:
    lines = [f"{len(rows.bad)} of {rows.rows_in} rows of {rows.source} cannot be used:"]
    lines += [f"  {row}" for row in rows.bad[:SHOWN]]
    if len(rows.bad) > SHOWN:
        lines.append(f"  … and {len(rows.bad) - SHOWN} more")
    lines.append(
        "mend them, or leave them out with bad_rows='skip-and-list' (--bad_rows skip-and-list)"
    )
    return "\n".join(lines)
