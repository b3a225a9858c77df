"""Where rows come from: files, folders, saved data sets, the Hub, or what Python holds already."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

KINDS = (".jsonl", ".json", ".csv", ".parquet")


class Source(NamedTuple):
    """What was found.

    Args:
        name: of it, with its split.
        rows: a `datasets.Dataset` whose images are not decoded, or a list with a mapping per row,
            or a ValueError in the place of one that cannot be read.
        places: where each row stands, such as ``train.jsonl:17``.
        root: the folder that image paths are relative to.
    """

    name: str
    rows: Any
    places: Sequence[str]
    root: Path | None = None


class Place(NamedTuple):
    """Where rows stand on this disk.

    Args:
        name: of it, with its split.
        files: that hold the rows, of one kind.
        root: the folder that image paths are relative to.
        split: of a saved data set, if one was asked for.
        saved: whether it is a data set that `datasets` saved.
    """

    name: str
    files: list[Path]
    root: Path
    split: str | None = None
    saved: bool = False

    def description(self) -> str:
        """The files and their size, in a phrase."""
        size = sum(file.stat().st_size for file in self.files) / 2**20
        kinds = sorted({file.suffix for file in self.files})
        return f"{self.name}: {len(self.files)} file(s) {', '.join(kinds)}, {size:.1f} MiB"


def import_datasets() -> Any:
    """The library `datasets`."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "loading data needs the package datasets: pip install 'sightline[trl]'"
        ) from error
    return datasets


def open_source(source: Any, split: str | None = None) -> Source:
    """Find the rows of a path, a Hub id (``owner/name``), a `datasets` object or a list of rows.

    Args:
        source: a path or id may end in ``@split``.
        split: the same; without one it is ``train``, or the only split there is.
    """
    if isinstance(source, str | Path):
        place = local_place(source, split)
        if place is None:
            _, split = _path_and_split(source, split)
            return _hub(str(source).rpartition("@")[0] or str(source), split)
        if place.saved:
            found = _dataset(place.name, import_datasets().load_from_disk(place.root), place.split)
            return found._replace(root=place.root)
        return _files(place.name, place.files, place.root)
    if isinstance(source, list | tuple):
        rows = [row if isinstance(row, Mapping) else _no_row(row) for row in source]
        return Source("the list of rows", rows, [f"row {number}" for number in range(len(rows))])
    return _dataset("the data set", source, split)


def local_place(source: str | Path, split: str | None = None) -> Place | None:
    """Where a path, as `open_source` takes it, has its rows; None for a Hub id. Reads no row.

    Raises:
        FileNotFoundError: it is neither.
        ValueError: the folder holds no data, or not this split; the file is of no known kind.
    """
    path, split = _path_and_split(source, split)
    if path.is_dir():
        return _folder(path, split)
    if path.is_file():
        if split is not None:
            raise ValueError(f"{path} is one file, which has no split {split!r}")
        if path.suffix not in KINDS:
            raise ValueError(f"{path} is of no known kind: {', '.join(KINDS)}")
        return Place(path.name, [path], path.parent)
    name = str(source).rpartition("@")[0] or str(source)
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or Path(name).suffix in KINDS:
        raise FileNotFoundError(
            f"no data at {name!r}: give a file ({', '.join(KINDS)}), a folder, or a Hub id such as "
            "hiyouga/geometry3k, with @split behind it if it has several"
        )
    return None


def _path_and_split(source: str | Path, split: str | None) -> tuple[Path, str | None]:
    path, text = Path(source).expanduser(), str(source)
    if path.exists() or "@" not in text:
        return path, split
    before, _, after = text.rpartition("@")
    if split not in (None, after):
        raise ValueError(f"{text} names the split {after!r}, and split={split!r} another")
    return Path(before).expanduser(), after


def _hub(name: str, split: str | None) -> Source:
    datasets = import_datasets()
    found = _dataset(name, datasets.load_dataset(name, split=split), split)
    # pictures that are files of their own were downloaded to here
    return found._replace(root=Path(datasets.config.HF_CACHE_HOME))


def _folder(path: Path, split: str | None) -> Place:
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return Place(path.name, sorted(path.rglob("*.arrow")), path, split, saved=True)
    for folder in [path / split] if split else [path, path / "train"]:
        metadata = [file for kind in KINDS for file in folder.glob(f"metadata{kind}")]
        if metadata:  # an imagefolder, whose files are named relative to it
            return Place(f"{folder.name}/{metadata[0].name}", metadata[:1], folder)
    splits: dict[str, list[Path]] = {}
    for file in sorted([*path.iterdir(), *(path / "data").glob("*")]):
        if file.suffix in KINDS and file.is_file():
            splits.setdefault(file.stem.split("-")[0], []).append(file)
    if not splits:
        raise ValueError(f"{path} holds no data: no {', '.join(KINDS)}, and no saved data set")
    name = _choose(path.name, list(splits), split)
    if len({file.suffix for file in splits[name]}) > 1:
        raise ValueError(f"{path} holds {name!r} in several kinds of files: name the one to read")
    return Place(f"{path.name}@{name}", splits[name], path)


def _choose(name: str, splits: list[str], split: str | None) -> str:
    """`split`, or train, or the only one."""
    chosen = split or ("train" if "train" in splits else splits[0])
    if chosen not in splits or (split is None and chosen != "train" and len(splits) > 1):
        problem = f"has no split {split!r}" if split else "has several splits"
        raise ValueError(f"{name} {problem}: choose one of {sorted(splits)} with @split")
    return chosen


def _files(name: str, files: list[Path], root: Path) -> Source:
    if files[0].suffix == ".parquet":
        datasets = import_datasets()
        try:
            rows = datasets.load_dataset(
                "parquet", data_files=[str(file) for file in files], split="train"
            )
        except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
            reason = error.__cause__ or error
            raise ValueError(f"{name} cannot be read as parquet: {reason}") from error
        return _dataset(name, rows, None)._replace(root=root)
    readers = {".jsonl": _json_lines, ".json": _json_list, ".csv": _table}
    rows, places = [], []
    for file in files:
        for number, row in readers[file.suffix](file):
            rows.append(row if isinstance(row, Mapping | ValueError) else _no_row(row))
            places.append(f"{file.name}:{number}")
    return Source(name, rows, places, root)


def _json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as lines:  # not as text, where other characters end a line too
        for number, line in enumerate(lines, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                yield number, json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                yield number, ValueError(f"it is not JSON: {type(error).__name__}: {error}")


def _json_list(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}; one object per line is .jsonl") from error
    if not isinstance(found, list):
        raise ValueError(f"{file} must hold a list of rows, got {type(found).__name__}")
    yield from enumerate(found)


def _table(file: Path) -> Iterator[tuple[int, Any]]:
    """A CSV: an empty cell is None, and one that begins with `[` a JSON list."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                yield reader.line_num, _row_of_table(row)
        except (csv.Error, UnicodeDecodeError) as error:  # of which no row can be saved
            raise ValueError(f"{file} cannot be read as CSV: {error}") from error


def _row_of_table(row: dict[Any, Any]) -> Any:
    if None in row or None in row.values():
        return ValueError("it has another number of cells than the header")
    try:
        return {k: json.loads(v) if v.startswith("[") else v or None for k, v in row.items()}
    except ValueError:
        return {key: value or None for key, value in row.items()}


def _no_row(value: Any) -> ValueError:
    return ValueError(f"it must be an object with columns, got {type(value).__name__}")


def _dataset(name: str, found: Any, split: str | None) -> Source:
    datasets = import_datasets()
    if isinstance(found, datasets.DatasetDict):
        chosen = _choose(name, list(found), split)
        name, found = f"{name}@{chosen}", found[chosen]
    elif split is not None:
        name = f"{name}@{split}"
    if not isinstance(found, datasets.Dataset):
        raise ValueError(
            "data must be a path, a Hub id, a list of rows or a datasets.Dataset, got "
            f"{type(found).__name__}"
        )
    if found.format["type"] == "custom":
        raise ValueError(f"{name} has a transform, which would be lost: apply it with map() first")
    rows = found.with_format(None)  # a copy
    for column, feature in rows.features.items():
        rows.info.features[column] = _undecoded(feature)
    return Source(name, rows, [f"{name}:{number}" for number in range(len(rows))])


def _undecoded(feature: Any) -> Any:
    """The feature, with its images left as bytes and paths: cast() would copy the whole data."""
    datasets = import_datasets()
    if isinstance(feature, datasets.Image):
        return datasets.Image(decode=False)
    if isinstance(feature, datasets.List):
        return datasets.List(_undecoded(feature.feature), length=feature.length)
    return feature
