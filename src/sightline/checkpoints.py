"""Checkpoints that are whole or do not count.

One is written into a folder of another name, described file by file in a manifest, and renamed
when all of it is on the disk. Older ones go only after that, so that a kill, a full disk or a
damaged file never costs more than the newest.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .records import write_json

MANIFEST = "manifest.json"
# What may change when a run goes on: it decides what is seen and kept of the run, not its numbers.
FREE = {
    "command",
    "versions",
    "resumed",
    *(
        f"settings.{name}"
        for name in (
            "ddp_backend",
            "ddp_bucket_cap_mb",
            "ddp_timeout",
            "disable_tqdm",
            "log_level",
            "logging_steps",
            "output_dir",
            "project",
            "report_to",
            "resume_from_checkpoint",
            "run_name",
            "save_steps",
            "save_strategy",
            "save_total_limit",
            "vllm_gpu_memory_utilization",
            "vllm_group_port",
            "vllm_server_base_url",
            "vllm_server_host",
            "vllm_server_port",
            "vllm_server_timeout",
        )
    ),
}


def publish(draft: Path, final: Path) -> None:
    """Make the folder `draft` the checkpoint `final`, on the same disk."""
    for path in draft.rglob("*"):
        _sync(path)
    files = [path for path in sorted(draft.rglob("*")) if path.is_file()]
    names = [path.relative_to(draft).as_posix() for path in files]
    write_json(draft / MANIFEST, {"files": dict(zip(names, _describe_all(files), strict=True))})
    _sync(draft / MANIFEST)
    _sync(draft)
    if final.exists():  # a resumed run has come to this step again
        shutil.rmtree(final)
    os.replace(draft, final)
    _sync(final.parent)


def prune(run: Path, keep: int | None) -> None:
    """Remove all but the `keep` newest checkpoints of a run; None or 0 keeps them all."""
    for folder in all_of(run)[keep:] if keep and keep > 0 else []:
        shutil.rmtree(folder)


def set_aside_after(run: Path, step: int) -> None:
    """Rename the checkpoints of later steps: a run that goes on at `step` parts from them.

    They are damaged, or of a past that will not be; left in place they would be the newest.
    """
    for folder in all_of(run):
        if int(folder.name.split("-")[1]) > step:
            aside = folder.with_name(f"{folder.name}.aside")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(folder, aside)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in a sentence; None if it is as it was written."""
    if not folder.is_dir():
        return f"there is no checkpoint {folder}"
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"{folder} has no {MANIFEST}: it was never finished"
    except (ValueError, KeyError, TypeError):
        return f"{folder / MANIFEST} cannot be read"
    files = [folder / name for name in listed]
    if gone := [path for path in files if not path.is_file()]:
        return f"{gone[0]} is missing"
    for path, expected, found in zip(files, listed.values(), _describe_all(files), strict=True):
        if found != expected:
            return f"{path} is not what was written"
    return None


def newest_whole(run: Path) -> Path:
    """The newest checkpoint of a run that is undamaged; each newer one is warned of by name."""
    found = []
    for folder in all_of(run):
        wrong = damage(folder)
        if wrong is None:
            return folder
        warnings.warn(f"checkpoint passed over: {wrong}", stacklevel=2)
        found.append(wrong)
    reason = "; ".join(found) or f"there is no checkpoint-N in {run}"
    raise FileNotFoundError(f"nothing to resume from: {reason}")


def check_same_run(run: Path, now: Mapping[str, Any], free: Sequence[str] = ()) -> dict[str, Any]:
    """Raise unless `now`, as it would be written to `run.json`, is what the run began with.

    Args:
        free: what may differ, besides what always may.

    Returns:
        What is in `run.json`.
    """
    file = run / "run.json"
    if not file.exists():
        raise FileNotFoundError(f"{run} holds no run to resume: {file} is missing")
    begun = json.loads(file.read_text(encoding="utf-8"))
    given = {name: begun[name] for name in free if name in begun}
    refuse_changes(run, begun, {**now, **given})
    return begun


def refuse_changes(of: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise unless what decides the numbers of a run is as it was when `of` was written."""
    before, after = _flat(begun), _flat(json.loads(json.dumps(now)))
    changed = [
        f"{key} was {before.get(key)!r}, now {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in FREE and key.split(".")[0] not in FREE
    ]
    if changed:
        raise ValueError(
            f"{of} was begun otherwise, and would not be the same run: {'; '.join(changed)}"
        )


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in content.items():
        inner = isinstance(value, dict) and prefix == ""
        flat |= _flat(value, f"{key}.") if inner else {prefix + key: value}
    return flat


def all_of(run: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, newest first."""
    steps = {
        int(match[1]): folder
        for folder in (run.iterdir() if run.is_dir() else ())
        if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name))
    }
    return [steps[step] for step in sorted(steps, reverse=True)]


def _describe_all(files: Sequence[Path]) -> list[dict[str, int | str]]:
    # in threads, which reading and hashing let run side by side: of a large model it is minutes
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_describe, files))


def _describe(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return {"bytes": path.stat().st_size, "blake2b": digest}


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
