"""The run folder: the files that training and scoring write and the report reads.

`run.json` says what was run, `metrics.jsonl` holds one line per log step, `tokens.jsonl` one line
per recorded response, `images/` their pictures, `heldout.jsonl` one line per held-out question with
the answers before and after, `result.json` the outcome.
"""

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from .algorithms.base import ViewScores
from .core import sampled_kl
from .encoding import Encoded, pictures_of
from .token_labels import token_texts

HELD_OUT_FILE = "heldout.jsonl"
NEEDED_BYTES = 300 * 2**20  # checkpoint, pictures and logs of the tiny model, with room
SIDE, TINY = 320, 64  # pixels along the longest side of a thumbnail, and of one kept exactly
PACKAGES = ("sightline", "torch", "transformers", "trl", "numpy")


def new_run_folder(path: Path) -> Path:
    """Make `path` for a new run, on a disk with room; what another run wrote is left alone."""
    if _taken(path):
        raise FileExistsError(
            f"{path} exists and belongs to another run: choose another --output-dir or remove it"
        )
    path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path).free
    if free < NEEDED_BYTES:
        raise OSError(
            f"{path} has {free / 2**20:.0f} MiB free, a run needs {NEEDED_BYTES / 2**20:.0f}: "
            "free some space or choose another --output-dir"
        )
    return path


@contextmanager
def leaving_no_empty_folder(folder: Path) -> Iterator[None]:
    """Let a request that fails leave nothing where it has written nothing."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


@contextmanager
def telling_what_is_kept(folder: Path) -> Iterator[None]:
    """Let an interrupt say what is left of the run in `folder`."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        kept = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise KeyboardInterrupt(f"interrupted; {folder} keeps {kept}") from interrupt


def default_folder(name: str) -> Path:
    """`runs/name`, or the first of `runs/name-2`, `runs/name-3`, … that is free."""
    folder, number = Path("runs") / name, 2
    while _taken(folder):
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


def _taken(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write whole or not at all: a reader never sees half a file."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON lines; NaN and infinity become null, which every JSON reader knows."""
    with path.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(_finite(line), ensure_ascii=False) + "\n")


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Drop the other JSON lines of a file, and a last one that was cut off; nothing if no file."""
    if not path.exists():
        return
    kept = []
    # not splitlines(), which cuts at U+2028 too, and so inside of responses
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        if wanted(json.loads(line)):
            kept.append(line + "\n")
    draft = path.with_name(path.name + ".tmp")
    draft.write_text("".join(kept), encoding="utf-8")
    os.replace(draft, path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a run's file, without a last one that was cut off; none if no file.

    Raises:
        ValueError: another line cannot be read.
    """
    if not path.exists():
        return []
    lines = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                lines.append(json.loads(line))
                if not isinstance(lines[-1], dict):
                    raise ValueError(f"it holds {lines[-1]!r}, no mapping")
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}, cannot be read ({error}): the run is damaged, begin "
                    "it anew in another folder"
                ) from error
    return lines


def save_images(folder: Path, row: Mapping[str, Any]) -> list[str]:
    """Save the row's pictures below `folder`, each once; return their paths relative to it.

    A name ends in a hash of the pixels, so that rows without an id, or runs that share a folder,
    cannot show each other's pictures.
    """
    name = str(row.get("id", "row"))
    return [save_picture(folder, name, picture) for picture in pictures_of(row)]


def save_thumbnail(folder: Path, name: str, picture: Image.Image) -> str:
    """As `save_picture`, at most `SIDE` pixels wide and high; in less detail unless it is tiny."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    # noise fills megabytes as a PNG, and squares of a tiny picture blur as anything else
    return save_picture(folder, name, small, "png" if max(small.size) <= TINY else "webp")


def save_picture(folder: Path, name: str, picture: Image.Image, kind: str = "png") -> str:
    """Save a picture below `folder` unless it is there; return its path relative to it."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    digest = hashlib.blake2b(picture.tobytes(), digest_size=4).hexdigest()
    path = Path("images") / f"{safe}-{digest}.{kind}"
    if not (folder / path).exists():
        (folder / "images").mkdir(exist_ok=True)
        draft = folder / "images" / f"draft.{kind}"  # a half picture would count as the picture
        picture.save(draft)
        os.replace(draft, folder / path)
    return str(path)


def environment() -> dict[str, str]:
    """Versions of what a number depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    return found | {name: version(name) for name in PACKAGES}


def command_line() -> str:
    """This process's command, without the values of flags that hold secrets."""
    words = ["sightline", *sys.argv[1:]]
    secret = re.compile(r"(--\w*(?:token|key))(=.*)?")
    for index, word in enumerate(words):
        if found := secret.fullmatch(word):
            words[index] = found[1]
            if found[2] is None and index + 1 < len(words):
                words[index + 1] = "***"
    return shlex.join(words)


def question(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """The text of a prompt, plain or in chat messages; an image part is told by `<image>`."""
    if isinstance(prompt, str):
        return prompt
    contents = [message["content"] for message in prompt]
    texts = [
        content
        if isinstance(content, str)
        else "".join("<image>" if part["type"] == "image" else part["text"] for part in content)
        for content in contents
    ]
    return "\n".join(texts)


def token_records(
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    responses: Encoded,
    views: Mapping[str, ViewScores],
    weights: Tensor | None = None,
    **columns: Sequence[Any],
) -> list[dict[str, Any]]:
    """The lines of `tokens.jsonl` for `responses`: per token, what each view changed.

    A row without an image has no dependency, which is not the same as 0: its views are left out.

    Args:
        rows: the questions, in the order of `responses`.
        views: as scored; the first gives the record's `dependency`, its sampled KL in nats.
        weights: `(B, T)`, or None where nothing was trained.
        columns: further fields, one value per row: `images`, `split`, `step`, `reward`,
            `reward_reason`, `advantage`, `labels`.
    """
    records = []
    for index, row in enumerate(rows):
        real = responses.mask[index]
        ids = responses.response_ids[index][real].tolist()
        text = tokenizer.decode(ids, skip_special_tokens=True)
        record = {
            "id": str(row.get("id", index)),
            "prompt": question(row["prompt"]),
            "gold": str(row.get("answer", "")),
            "response": text,
            "tokens": token_texts(tokenizer, ids),
            "views": {},
            **{name: values[index] for name, values in columns.items()},
        }
        if responses.num_images[index]:
            for name, score in views.items():
                ratio = score.log_ratio[index][real]
                record["views"][name] = {"log_ratio": ratio.tolist()}
                record.setdefault("dependency", sampled_kl(ratio).tolist())
                if score.kl is not None:
                    record["views"][name]["kl"] = score.kl[index][real].tolist()
        if weights is not None:
            record["weights"] = weights[index][real].tolist()
        records.append(record)
    return records


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:  # nan or infinite
        return None
    return value
