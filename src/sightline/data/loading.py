"""`load_rows`: every row is used, or listed with the reason why not."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..prompts import NONE, Prompt
from .dialects import Columns, Converted, convert, row_id
from .images import MAX_PIXELS, Limits, cells_of, check, content, decode, name_of, stored
from .sources import Source, import_datasets, open_source

POLICIES = ("error", "skip-and-list")
SHOWN = 20  # bad rows in a message; a file has them all


@dataclass(frozen=True)
class BadRow:
    """A row that is not used.

    Args:
        id: its own, or its place where it has none.
        place: where it stands, such as ``train.jsonl:17``.
        image: the path of the image at fault, or "".
        reason: what is wrong, in a sentence that is the same on every process.
    """

    id: str
    place: str
    image: str
    reason: str

    def __str__(self):
        image = f", image {self.image!r}" if self.image else ""
        return f"row {self.id!r} ({self.place}){image}: {self.reason}"


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
        taken = [f"{role} ← {name}" for role, name in self.columns._asdict().items() if name]
        taken += [] if self.columns.id else ["id ← a hash of the row"]
        left_out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"data: {self.source}: {len(self):,} rows used, {len(self.bad):,} listed as bad; "
            f"{self.images.get(0, 0):,} without an image, {several:,} with several; "
            f"{', '.join(taken)}{left_out}; prompt format {self.prompt.name}"
        )

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
    folder: Path | None = None,
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
        folder: where `bad_rows.jsonl` is written, with a line for each row that is not used.
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
    found = open_source(source, split)
    if not len(found.rows):
        raise ValueError(f"{found.name} holds no rows")
    names = _column_names(found)
    chosen = Columns.of(names, columns)
    limits = Limits(Path(root) if root else found.root, max_pixels, allow_outside_root)
    everything = bad_rows == "skip-and-list" if decode_all is None else decode_all
    survey = _survey(found, chosen, names, prompt, limits, everything)
    rows = Rows(
        _build(found, chosen, names, survey, limits),
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
    if folder is not None:
        write_bad_rows(folder, rows.bad)
    if rows.bad and (bad_rows == "error" or not len(rows)):
        raise ValueError(_complaint(rows))
    if os.environ.get("RANK", "0") == "0":
        print(rows.description())
    return rows


def check_images(rows: Rows) -> list[BadRow]:
    """Decode every image of `rows`; the ones that fail, a row named once."""
    bad = []
    for number, row in enumerate(rows.undecoded()):
        wrong = _wrong_image(cells_of(row["images"]), rows.limits, everything=True)
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


class DecodeOnAccess:
    """The transform of a data set whose pictures are decoded when its rows are read.

    A picture is decoded once for a batch, and not again if the next batch has it too: TRL repeats
    each row for its group, and a batch for each of its updates (T63).
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._last: dict[tuple, Image.Image] = {}

    def __getstate__(self):
        return {"limits": self.limits, "_last": {}}  # a worker begins with none

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        if "images" not in batch:
            return batch
        ids = batch.get("id") or ["?"] * len(batch["images"])
        before, self._last = self._last, {}
        batch["images"] = [
            [self._picture(row, cell, before) for cell in cells_of(value)]
            for row, value in zip(ids, batch["images"], strict=True)
        ]
        return batch

    def _picture(self, row: str, cell: Any, before: dict[tuple, Image.Image]) -> Image.Image:
        key = tuple(cell.values()) if isinstance(cell, dict) else (cell,)
        if key not in self._last:
            try:
                self._last[key] = before[key] if key in before else decode(cell, self.limits)
            except ValueError as error:
                raise ValueError(f"row {row!r}, image {name_of(cell)!r}: {error}") from error
        return self._last[key]


@dataclass
class _Survey:
    """What looking at every row once has brought.

    Args:
        kept: the number of each row that is used.
        rows: what `convert` made of it.
        cells: its images as they are to be stored, where the data does not store them already.
        images: how many it has.
    """

    kept: list[int] = field(default_factory=list)
    rows: list[Converted] = field(default_factory=list)
    cells: list[list[dict]] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def _survey(
    found: Source,
    columns: Columns,
    names: Sequence[str],
    prompt: Prompt,
    limits: Limits,
    everything: bool,
) -> _Survey:
    survey, ids, stores = _Survey(), Counter(), isinstance(found.rows, list)
    for number, row in enumerate(found.rows):
        place, own, image = found.places[number], None, ""
        try:
            if isinstance(row, ValueError):
                raise row
            row = {**dict.fromkeys(names), **row}
            own = row_id(row, columns)
            cells = cells_of(row[columns.images]) if columns.images else []
            if wrong := _wrong_image(cells, limits, everything):
                image, reason = wrong
                raise ValueError(reason)
            if stores:
                cells = [stored(cell, limits) for cell in cells]
                row = {**row, columns.images: cells} if columns.images else row
                # Arrow takes no lone surrogates
                json.dumps(row, ensure_ascii=False, default=repr).encode()
            made = convert(row, columns, prompt)
            if own is not None and ids[own]:
                raise ValueError("another row has this id")
        except (ValueError, RecursionError) as error:
            name = str(place if own is None else own)
            survey.bad.append(BadRow(name, place, image, str(error)))
            continue
        ids[made.id] += 1
        if ids[made.id] > 1:  # rows without an id that are alike
            made = made._replace(id=f"{made.id}-{ids[made.id]}")
        survey.kept.append(number)
        survey.rows.append(made)
        survey.cells.append(cells if stores else [])
        survey.images.append(len(cells))
    return survey


def _wrong_image(cells: list[Any], limits: Limits, everything: bool) -> tuple[str, str] | None:
    """Path and reason of the first image that is wrong, if one is."""
    for cell in cells:
        try:
            if everything:
                decode(cell, limits)
            else:
                check(cell, limits)
        except ValueError as error:
            return name_of(cell), str(error)
    return None


def _column_names(found: Source) -> list[str]:
    if not isinstance(found.rows, list):
        return found.rows.column_names
    rows = [row for row in found.rows if isinstance(row, Mapping)]
    if not rows:
        raise ValueError(f"{found.name} holds no row at all; {found.places[0]}: {found.rows[0]}")
    return list(dict.fromkeys(name for row in rows for name in row))


def _build(
    found: Source, columns: Columns, names: Sequence[str], survey: _Survey, limits: Limits
) -> Any:
    """The data set of the rows that are kept."""
    dropped = {*columns.left_out(names), *("id", "prompt", "answer"), columns.images or "images"}
    build = _from_rows if isinstance(found.rows, list) else _from_dataset
    return build(found, columns, survey, dropped).with_transform(DecodeOnAccess(limits))


def _from_rows(found: Source, columns: Columns, survey: _Survey, dropped: set[str]) -> Any:
    datasets = import_datasets()
    text = datasets.Value("string")
    cell = {"bytes": datasets.Value("binary"), "path": text}
    data: dict[str, list] = {
        "id": [row.id for row in survey.rows],
        "prompt": [row.prompt for row in survey.rows],
        "images": survey.cells,
        "answer": [row.answer for row in survey.rows],
    }
    features = {
        "id": text,
        "prompt": datasets.Json(),
        "images": datasets.List(cell),
        "answer": text,
    }
    for name in _column_names(found):
        if name not in dropped:
            data[name] = [found.rows[number].get(name) for number in survey.kept]
            features[name] = _feature(data[name])
    return datasets.Dataset.from_dict(data, features=datasets.Features(features))


def _feature(values: list[Any]) -> Any:
    """How Arrow keeps these values: as JSON where rows differ in kind or keys, else as they are.

    JSON keeps a number of more than 64 bits as text.
    """
    datasets = import_datasets()
    kinds = {type(value) for value in values} - {type(None)}
    too_big = any(isinstance(value, int) and abs(value) >= 2**63 for value in values)
    if len(kinds) > 1 or kinds & {dict, list} or too_big:
        return datasets.Json()
    if not kinds:
        return datasets.Value("string")
    return datasets.Dataset.from_dict({"values": values}).features["values"]


def _from_dataset(found: Source, columns: Columns, survey: _Survey, dropped: set[str]) -> Any:
    """The data as it is stored, with other names and our columns: no image is copied."""
    datasets = import_datasets()
    data = found.rows
    if columns.images:
        data = data.rename_column(columns.images, "sightline images")
    data = data.remove_columns([name for name in data.column_names if name in dropped])
    if columns.images:
        data = data.rename_column("sightline images", "images")
    made: dict[int, Any] = dict(zip(survey.kept, survey.rows, strict=True))
    every = range(len(found.rows))
    for name, feature, value in (
        ("id", datasets.Value("string"), lambda row: row.id),
        ("prompt", datasets.Json(), lambda row: json.dumps(row.prompt)),
        ("answer", datasets.Value("string"), lambda row: row.answer),
    ):
        column = [value(made[number]) if number in made else None for number in every]
        data = data.add_column(name, column, feature=feature)
    if not columns.images:
        none = datasets.List({"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
        data = data.add_column("images", [[]] * len(every), feature=none)
    return data if len(made) == len(every) else data.select(survey.kept)


def _complaint(rows: Rows) -> str:
    lines = [f"{len(rows.bad)} of {rows.rows_in} rows of {rows.source} cannot be used:"]
    lines += [f"  {row}" for row in rows.bad[:SHOWN]]
    if len(rows.bad) > SHOWN:
        lines.append(f"  … and {len(rows.bad) - SHOWN} more")
    lines.append("mend them, or leave them out with bad_rows='skip-and-list'")
    return "\n".join(lines)
