"""Token records as a table with one row per token, for whoever reads parquet."""

import os
from collections.abc import Iterable, Mapping
from math import nan
from pathlib import Path
from typing import Any

from torch import tensor

from ..core import sampled_kl

BATCH = 500  # responses in memory at a time


def write_token_table(path: Path, records: Iterable[Mapping[str, Any]], views: list[str]) -> None:
    """Write `tokens.parquet` from the lines of `tokens.jsonl`, whole or not at all.

    Columns: id, index, text, start, end, log_prob, label, and for each view ``VIEW/log_ratio``,
    ``VIEW/k3`` and ``VIEW/kl``, in nats; null where a response was not scored.

    Raises:
        ImportError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            "tokens.parquet needs pyarrow, which comes with pip install 'sightline[trl]'"
        ) from error
    kinds = {"id": pa.string(), "index": pa.int32(), "text": pa.string()}
    kinds |= {"start": pa.int32(), "end": pa.int32(), "log_prob": pa.float32()}
    kinds |= {"label": pa.string()}
    parts = ("log_ratio", "k3", "kl")
    kinds |= {f"{name}/{part}": pa.float32() for name in views for part in parts}
    schema = pa.schema(list(kinds.items()))
    draft = path.with_name(path.name + ".tmp")
    with pq.ParquetWriter(draft, schema) as writer:
        columns: dict[str, list] = {name: [] for name in kinds}
        for number, record in enumerate(records, 1):
            _add(columns, record, views)
            if number % BATCH == 0:
                writer.write_table(pa.table(columns, schema))
                columns = {name: [] for name in kinds}
        writer.write_table(pa.table(columns, schema))
    os.replace(draft, path)


def _add(columns: dict[str, list], record: Mapping[str, Any], views: list[str]) -> None:
    length = len(record["tokens"])
    nothing = [None] * length
    columns["id"] += [record["id"]] * length
    columns["index"] += range(length)
    columns["text"] += record["tokens"]
    columns["start"] += [start for start, _ in record["offsets"]]
    columns["end"] += [end for _, end in record["offsets"]]
    columns["log_prob"] += record["log_probs"]
    columns["label"] += record.get("labels") or nothing
    for name in views:
        scores = record["views"].get(name, {})
        ratio = scores.get("log_ratio", nothing)
        columns[f"{name}/log_ratio"] += ratio
        k3 = sampled_kl(tensor([nan if value is None else value for value in ratio])).tolist()
        columns[f"{name}/k3"] += [None if value != value else value for value in k3]
        columns[f"{name}/kl"] += scores.get("kl", nothing)
