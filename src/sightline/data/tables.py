"""The rows that are used as an Arrow table, whose pictures are decoded when they are read."""

import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from .dialects import Columns
from .images import Limits, cells_of, decode, name_of
from .sources import Source, import_datasets
from .survey import Survey


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


def build(
    found: Source, columns: Columns, names: Sequence[str], survey: Survey, limits: Limits
) -> Any:
    """The data set of the rows that are kept."""
    ours = {*columns.left_out(names), *("id", "prompt", "answer"), columns.images}
    others = [name for name in names if name not in ours]
    if isinstance(found.rows, list):
        data = _from_rows(found.rows, others, survey)
    else:
        data = _from_dataset(found.rows, others, survey, columns.images)
    return data.with_transform(DecodeOnAccess(limits))


def _from_rows(rows: list[Any], others: list[str], survey: Survey) -> Any:
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
    for name in others:
        data[name] = [rows[number].get(name) for number in survey.kept]
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


def _from_dataset(data: Any, others: list[str], survey: Survey, images: str | None) -> Any:
    """The data as it is stored, with other names and our columns: no image is copied."""
    datasets = import_datasets()
    every = range(len(data))
    data = data.select_columns([*others, images] if images else others)
    if images not in (None, "images"):
        data = data.rename_column(images, "images")
    made: dict[int, Any] = dict(zip(survey.kept, survey.rows, strict=True))
    for name, feature, value in (
        ("id", datasets.Value("string"), lambda row: row.id),
        ("prompt", datasets.Json(), lambda row: json.dumps(row.prompt)),
        ("answer", datasets.Value("string"), lambda row: row.answer),
    ):
        column = [value(made[number]) if number in made else None for number in every]
        data = data.add_column(name, column, feature=feature)
    if not images:
        none = datasets.List({"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
        data = data.add_column("images", [[]] * len(every), feature=none)
    return data if len(made) == len(every) else data.select(survey.kept)
