"""`sightline eval`: from flags to samples, numbers and a table."""

import argparse
import hashlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from .. import tasks
from ..checkpoints import check_same_run
from ..data import BadRow, load_rows
from ..data.dialects import named_columns
from ..data.loading import write_bad_rows
from ..process import quiet_libraries, use_threads
from ..prompts import PROMPTS, Prompt, find_prompt
from ..records import (
    default_folder,
    environment,
    new_run_folder,
    telling_what_is_kept,
    write_json,
)
from ..rewards import Verifier
from .frozen_rows import load_frozen
from .models import load_model, trained_prompt
from .protocol import Decoding, Protocol, load_protocol
from .run import PICTURED, SAMPLES, evaluate, plan
from .summary import summarise, table

TASK_QUESTIONS = 1000
SHOWN = 20  # questions in a warning; run.json has them all


class Asked(NamedTuple):
    """The questions.

    Args:
        name: of them, for the folder and the table.
        rows, ids: as `plan` takes them.
        source: what the protocol says of where they are from.
        bad: rows that cannot be asked.
    """

    name: str
    rows: Any
    ids: list[str]
    source: dict[str, Any]
    bad: Sequence[BadRow] = ()


def run(args: argparse.Namespace) -> None:
    """Evaluate `args.model`, into a folder with run.json, samples.jsonl and result.json."""
    quiet_libraries()
    use_threads(args.threads)
    frozen = load_protocol(args.benchmark) if args.benchmark else None
    decoding = _decoding(args, frozen)
    prompt, trained = choose_prompt(args.model, args.prompt, frozen)
    asked = _questions(args, frozen, prompt)
    request = plan(
        *(asked.rows, asked.ids, args.image, decoding),
        *(args.seed, args.batch_size, args.keep_images),
    )
    verifier = Verifier(prompt.extractor)
    model, processor, about = load_model(args.model)
    protocol = {
        **asked.source,
        "prompt": prompt.about(),
        "decoding": asdict(decoding),
        "verifier": verifier.description(),
        "conditions": list(args.image),
        "other_than_frozen": _changes(frozen, prompt, decoding, asked),
        "left_out_of_other": request.without_partner(),
    }
    content = {
        "command": shlex.join(["sightline", *sys.argv[1:]]),
        "model": about,
        "protocol": protocol,
        "seed": args.seed,
        "batch_size": args.batch_size,
        "threads": torch.get_num_threads(),
        "keep_images": args.keep_images,
        "bad_rows": len(asked.bad),
        "versions": environment(),
    }
    folder = _claim(args, asked.name, content)
    if asked.bad:
        write_bad_rows(folder, asked.bad)
    if trained is not None and trained.fingerprint() != prompt.fingerprint():
        print(f"note: the model was trained with prompt {trained.name}, asked with {prompt.name}")
    count = len(request.jobs())
    print(f"{asked.name}: {len(asked.ids):,} questions, {count:,} responses by {args.model}")
    print("".join(f"{line}\n" for line in left_out(protocol)), end="")
    with telling_what_is_kept(folder), bar("responses", count) as update:
        samples = evaluate(model, processor, request, verifier, folder, update)
    summary = summarise(samples, args.image, decoding.n)
    kept = ("model", "protocol", "seed", "batch_size", "bad_rows", "versions")
    write_json(folder / "result.json", {**summary, **{key: content[key] for key in kept}})
    said = [*table(summary, decoding.n), *left_out(protocol), *footer(protocol, frozen, folder)]
    if len(asked.ids) > PICTURED and not args.keep_images:
        said.append(
            f"pictures of the first {PICTURED} questions are kept; to give samples to sightline "
            "score, ask with --keep-images"
        )
    print("\n".join(said))


def choose_prompt(
    model: str, told: str | None, frozen: Protocol | None
) -> tuple[Prompt, Prompt | None]:
    """The format to ask in, and the one that the model was trained with, where that is known.

    Raises:
        ValueError: they differ, and nobody said that they should.
    """
    trained = trained_prompt(model)
    if told is not None:
        return find_prompt(told), trained
    if frozen is None:
        return trained or PROMPTS["think-boxed"], trained
    prompt = find_prompt(frozen.prompt["name"])
    if trained is not None and trained.fingerprint() != prompt.fingerprint():
        raise ValueError(
            f"{model} was trained with the prompt format {trained.name!r}, and benchmark "
            f"{frozen.name!r} asks in {prompt.name!r}, in which it would do worse than it can: "
            f"choose one with --prompt {trained.name} or --prompt {prompt.name}"
        )
    return prompt, trained


def _decoding(args: argparse.Namespace, frozen: Protocol | None) -> Decoding:
    default = frozen.decoding if frozen else Decoding()
    told = {field.name: getattr(args, field.name) for field in fields(Decoding)}
    if told["temperature"] == 0 and told["n"] is None:
        told["n"] = 1
    return Decoding(**asdict(default) | {k: v for k, v in told.items() if v is not None})


def _questions(args: argparse.Namespace, frozen: Protocol | None, prompt: Prompt) -> Asked:
    if frozen is not None:
        found = load_frozen(frozen, prompt)
        source = {
            "benchmark": frozen.about(),
            "revision": found.revision,
            "without_instruction": found.without_instruction,
        }
        return _from_rows(frozen.name, found.rows, args.questions, source)
    if args.data is not None:
        with TemporaryDirectory() as folder:  # that of the run is made when all is understood
            rows = load_rows(
                args.data,
                prompt=prompt,
                root=args.data_root,
                columns=named_columns(args.columns),
                bad_rows=args.bad_rows,
                folder=folder,
                decode_all=True,  # a damaged picture would end the evaluation hours later
                allow_outside_root=args.allow_outside_root,
            )
        found = _from_rows(Path(args.data).stem, rows, args.questions, {"data": rows.source})
        return found._replace(bad=rows.bad)
    name = args.task or "digits"
    task = tasks.load(name)
    rows = task.rows(args.questions or TASK_QUESTIONS, seed=args.seed, split="heldout")
    for row in rows:
        row["prompt"] = prompt.render(row["prompt"][0]["content"])
    ids = [row["id"] for row in rows]
    source = {"task": name, "data_sha256": task.fingerprint(), **_named(ids)}
    return Asked(name, rows, ids, source)


def _from_rows(name: str, rows: Any, most: int | None, source: dict[str, Any]) -> Asked:
    fingerprint = rows.fingerprint()
    ids = [str(row["id"]) for row in rows.undecoded()][:most]
    taken = rows.dataset.select(range(len(ids)))
    return Asked(name, taken, ids, {**source, "fingerprint": fingerprint, **_named(ids)})


def _named(ids: Sequence[str]) -> dict[str, Any]:
    digest = hashlib.blake2b("\n".join(ids).encode(), digest_size=16).hexdigest()
    return {"questions": len(ids), "ids_blake2b": digest}


def _changes(
    frozen: Protocol | None, prompt: Prompt, decoding: Decoding, asked: Asked
) -> dict[str, Any]:
    """What is otherwise than the benchmark's file has it."""
    if frozen is None:
        return {}
    changes: dict[str, Any] = {}
    if prompt.fingerprint() != PROMPTS[frozen.prompt["name"]].fingerprint():
        changes["prompt"] = prompt.name
    for name, value in asdict(decoding).items():
        if value != getattr(frozen.decoding, name):
            changes[name] = value
    whole = frozen.rows if frozen.row_ids is None else len(set(frozen.row_ids))
    if len(asked.ids) != whole:
        changes["questions"] = len(asked.ids)
    return changes


def _claim(args: argparse.Namespace, name: str, content: dict[str, Any]) -> Path:
    """The run folder, new or gone on with."""
    folder = args.output_dir or default_folder(f"eval-{name}")
    if args.resume:
        check_same_run(folder, content)
        return folder
    if (folder / SAMPLES).exists():
        raise FileExistsError(
            f"{folder} holds an evaluation: go on with it by --resume, or choose another folder"
        )
    new_run_folder(folder)
    write_json(folder / "run.json", content)
    return folder


def left_out(protocol: dict[str, Any]) -> list[str]:
    """A warning if questions have no partner to take another image from."""
    names = protocol["left_out_of_other"]
    if not names:
        return []
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
    return [
        f"WARNING: {len(names):,} of {protocol['questions']:,} questions are left out of --image "
        f"other: no other question has as many images that all differ from theirs: {shown}"
    ]


def footer(protocol: dict[str, Any], frozen: Protocol | None, folder: Path) -> list[str]:
    """What the numbers hang on, and where they are."""
    decoding, verifier = protocol["decoding"], protocol["verifier"]
    extractor = verifier["extractor"]
    lines = [
        f"protocol: prompt {protocol['prompt']['name']} v{protocol['prompt']['version']}, "
        f"{decoding['n']} samples at temperature {decoding['temperature']}, top_p "
        f"{decoding['top_p']}, at most {decoding['max_new_tokens']} tokens; answers from "
        f"{extractor['name']} v{extractor['version']}, no judge; rows {protocol['ids_blake2b'][:8]}"
    ]
    if frozen is not None:
        changes = protocol["other_than_frozen"]
        said = ", ".join(f"{key} {value}" for key, value in changes.items())
        lines.append(f"frozen protocol {frozen.name}" + (f", changed: {said}" if said else ""))
        lines += [f"note: {frozen.note}"] if frozen.note else []
    return [*lines, f"samples: {folder / SAMPLES}   report: sightline report {folder}"]


@contextmanager
def bar(name: str, total: int) -> Iterator[Any]:
    """A progress bar with the time that is left; after a resume, counted from there."""
    shown: list[tqdm] = []

    def update(done: int) -> None:
        if shown:
            shown[0].update(done - shown[0].n)
        else:  # the first word is what was there before
            shown.append(
                tqdm(total=total, initial=done, desc=name, unit="", leave=False, disable=None)
            )

    try:
        yield update
    finally:
        for tqdm_bar in shown:
            tqdm_bar.close()
