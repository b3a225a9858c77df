"""The rows of a benchmark as its authors froze them: ShareGPT files with pictures beside them.

PAPO-Eval (`PAPO-Galaxy/PAPO_eval`, for PAPO, VPPO and PGPO) has a parquet file per benchmark and an
archive of its pictures; `chamber111/VPPO-Eval` a JSON file and a folder. In both the words of the
user already end in the papers' instruction.
"""

import json
import os
import re
import zipfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from ..data import Rows, load_rows
from ..data.sources import import_datasets
from ..prompts import Prompt
from .protocol import FrozenSource, Protocol

INSTRUCTION = re.compile(
    r"\s*You (?:must )?first think through the reasoning process.*\\boxed\{\}\.?\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
IN_FILE = "data/images/"  # before a picture's path, in the layout that these files were made for


class Frozen(NamedTuple):
    """A benchmark's rows.

    Args:
        rows: ready to be asked.
        revision: the commit of the data set they are from; None for a folder.
        without_instruction: questions that did not end in the papers' instruction.
    """

    rows: Rows
    revision: str | None
    without_instruction: int


def load_frozen(protocol: Protocol, prompt: Prompt) -> Frozen:
    """Download what is not there yet, and load it.

    Raises:
        ValueError: the rows are not those of the protocol.
    """
    source = protocol.source
    folder, revision = fetch(source)
    records = _records(folder / source.file)
    if len(records) != protocol.rows:
        raise ValueError(
            f"benchmark {protocol.name!r} has {protocol.rows} rows, and {source.dataset} holds "
            f"{len(records)} in {source.file}: it is not what was frozen"
        )
    root, place = pictures_place(folder, source, revision)
    rows, without = [], 0
    for number, record in enumerate(records):
        row = question_of(record, f"{protocol.name}-{number:05d}")
        without += row.pop("bare")
        row["images"] = [str(place / path) for path in row["images"]]
        if protocol.row_ids is None or row["id"] in protocol.row_ids:
            rows.append(row)
    if protocol.row_ids is not None and len(rows) != len(set(protocol.row_ids)):
        raise ValueError(f"some row_ids of benchmark {protocol.name!r} are not in {source.file}")
    return Frozen(load_rows(rows, prompt=prompt, root=root), revision, without)


def question_of(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A ShareGPT record → `id`, `problem` without the papers' instruction, `images`, `answer`.

    `bare` says whether there was no instruction to take away.
    """
    messages = [(m.get("role"), m.get("content")) for m in record.get("messages") or []]
    asked = [text for role, text in messages if role == "user"]
    told = [text for role, text in messages if role == "assistant"]
    if len(asked) != 1 or len(told) != 1 or not isinstance(asked[0], str):
        raise ValueError(
            f"row {name!r}: messages must be one of the user and one of the assistant, got "
            f"{[role for role, _ in messages]}"
        )
    question = INSTRUCTION.sub("", asked[0])
    paths = [_inside(str(path)) for path in record.get("images") or []]
    bare = question == asked[0]
    return {"id": name, "problem": question, "images": paths, "answer": told[0], "bare": bare}


def fetch(source: FrozenSource) -> tuple[Path, str | None]:
    """The folder with the source's files, and its commit."""
    if Path(source.dataset).expanduser().is_dir():
        return Path(source.dataset).expanduser(), None
    from huggingface_hub import snapshot_download

    wanted = [source.file, source.images, f"{source.images}/*"]
    try:
        folder = snapshot_download(
            source.dataset, repo_type="dataset", revision=source.revision, allow_patterns=wanted
        )
    except OSError as error:
        raise OSError(
            f"{source.dataset} can be read neither from the Hub nor from what was downloaded "
            f"before: check the network, or name a copy in a protocol file of your own ({error})"
        ) from error
    return Path(folder), Path(folder).name


def _records(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the data set is not laid out as was frozen")
    if path.suffix == ".parquet":
        return import_datasets().Dataset.from_parquet(str(path)).to_list()
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list):
        raise ValueError(f"{path} must hold a list of rows, got {type(found).__name__}")
    return found


def pictures_place(folder: Path, source: FrozenSource, revision: str | None) -> tuple[Path, Path]:
    """The folder that no picture may leave, and the one in it that their paths begin at."""
    if not source.images.endswith(".zip"):
        # the Hub's downloads are links from snapshots/commit/ to blobs/
        root = folder if revision is None else folder.parents[1]
        return root, (folder / IN_FILE).relative_to(root)
    archive = folder / source.images
    if not archive.is_file():
        raise FileNotFoundError(f"{archive} is missing: the data set is not laid out as was frozen")
    return _unpacked(archive), Path()


def _unpacked(archive: Path) -> Path:
    """The content of an archive, unpacked once into Sightline's cache."""
    about = archive.resolve().stat()
    key = repr((str(archive.absolute()), about.st_size, about.st_mtime_ns)).encode()
    cache = Path(os.environ.get("SIGHTLINE_CACHE") or Path.home() / ".cache" / "sightline")
    target = cache / f"{archive.stem}-{blake2b(key, digest_size=8).hexdigest()}"
    if not target.is_dir():
        draft = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(draft)  # which keeps every file below the draft
        except zipfile.BadZipFile as error:
            raise ValueError(f"{archive} cannot be unpacked: {error}") from error
        os.replace(draft, target)
    return target


def _inside(path: str) -> str:
    """``./data/images/folder/1.png`` → ``folder/1.png``, as it is in archive and folder."""
    return path.strip().replace("\\", "/").removeprefix("./").removeprefix(IN_FILE)
