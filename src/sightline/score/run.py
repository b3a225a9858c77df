"""`sightline score`: how much each token of given responses hangs on the image.

A run goes through the same steps however often it was interrupted: read, sample if asked, score in
batches that are always the same, put together, attribute, sum up. What a step has written is not
done again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..checkpoints import check_same_run
from ..data.dialects import named_columns
from ..data.loading import write_bad_rows
from ..draws import Draws
from ..families import family_of
from ..models import load_model, weights_hash
from ..process import quiet_libraries, use_threads
from ..prompts import find_prompt
from ..records import (
    environment,
    new_run_folder,
    read_lines,
    telling_what_is_kept,
    write_json,
)
from ..views import View
from .answered import Answered
from .attributing import attribute
from .grounding import summarise, summary_lines
from .judging import judged
from .named_views import asked_views, controls_for, without_other_images
from .probe import noise_floor
from .recording import PARTIAL, put_together, score_all
from .request import ScoreRequest
from .responses import Responses, complaint, read_responses
from .sampling import check_questions, sample_responses
from .scorer import Scorer, without_others
from .token_table import write_token_table
from .tokens import tokens_of

# what may be another on resume: it decides the last bits of numbers, and not what is asked
MACHINE = ("threads", "device", "computed_on")


def score(request: ScoreRequest, command: str = "") -> dict[str, Any]:
    """Score a file of responses into a run folder, or go on with it.

    Args:
        command: for `run.json`.

    Returns:
        What `result.json` holds.
    """
    quiet_libraries()
    views = asked_views(request.views, request.weights)
    found = _read(request)
    use_threads(request.threads)
    model, processor = load_model(
        request.model, dtype=request.dtype, device=request.device, scored=True
    )
    views = _possible(request, views, model, found)
    folder = Path(request.output_dir)
    about = _about(request, found, model, views, command)
    begun = _begun(folder)
    if begun:
        check_same_run(folder, about, free=MACHINE)
        if (folder / "result.json").exists() and (folder / "tokens.jsonl").exists():
            return _say(json.loads((folder / "result.json").read_bytes()), folder)
        _go_on(folder, begun, about)
    else:
        new_run_folder(folder)
    with telling_what_is_kept(folder):
        rows: Sequence[Answered] = found.rows
        if request.generate:
            if not begun:
                _claim(folder, about, found)
            rows = _sample(request, model, processor, found, folder)
        rows = judged(rows, processor.tokenizer, request.extractor)
        scorer = _scorer(request, model, processor, views, rows, found)
        floor = noise_floor(scorer)
        if not begun:  # not before: a request may fail until here
            _claim(folder, about, found)
        result = _carried_out(request, scorer, folder, floor, len(found.bad))
    return _say(result, folder)


def _carried_out(
    request: ScoreRequest, scorer: Scorer, folder: Path, floor: float, bad: int
) -> dict[str, Any]:
    """What `result.json` holds, after the steps that are not done yet."""
    if not (folder / "tokens.jsonl").exists():
        score_all(scorer, folder, request.batch_size)
        put_together(scorer, folder, request.weights)
    (folder / PARTIAL).unlink(missing_ok=True)
    records = read_lines(folder / "tokens.jsonl")
    if request.token_rule:
        attribute(scorer, records, folder / "attribution.jsonl", request, floor)
    result = {**summarise(records, floor), "bad_rows": bad}
    _write_table(folder, records, list(scorer.views))
    write_json(folder / "result.json", result)
    return result


def _say(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    print("\n".join([*summary_lines(result), f"report: sightline report {folder}"]))
    return result


def _begun(folder: Path) -> dict[str, Any] | None:
    """The `run.json` of the folder if it holds a run of ours, finished or not."""
    try:
        found = json.loads((folder / "run.json").read_bytes())
        return found if found["kind"] == "score" else None
    except (OSError, ValueError, KeyError, TypeError):  # of another kind, or nothing
        return None


def _claim(folder: Path, about: Mapping[str, Any], found: Responses) -> None:
    """Make the folder that of this run. The bad rows come first: no later start writes them."""
    if found.bad:
        write_bad_rows(folder, found.bad)
    write_json(folder / "run.json", about)


def _go_on(folder: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say, and keep in `run.json`, that a run goes on on another machine than before."""
    parts = [begun, *begun.get("resumed", [])]
    changed = [
        f"{name.replace('_', ' ')} was {parts[-1].get(name) or 'auto'}, is {now[name] or 'auto'}"
        for name in MACHINE
        if parts[-1].get(name) != now[name]
    ]
    if not changed:
        return
    print(
        f"note: the run goes on otherwise than it was computed before: {'; '.join(changed)}. It "
        "asks the same, but the last bits of numbers may differ between its parts"
    )
    part = {name: now[name] for name in ("command", *MACHINE)}
    write_json(folder / "run.json", {**begun, "resumed": [*parts[1:], part]})


def _read(request: ScoreRequest) -> Responses:
    found = read_responses(
        request.responses,
        images=Path(request.images).expanduser() if request.images else None,
        columns=named_columns(request.columns),
        prompt=find_prompt(request.prompt),
        answered=not request.generate,
        max_pixels=request.max_pixels,
        allow_outside_root=request.allow_outside_root,
    )
    if found.bad and (request.bad_rows == "error" or not found.rows):
        raise ValueError(complaint(found))
    if not any(row.cells for row in found.rows):
        raise ValueError(
            f"no row of {found.source} has an image (columns images or image, or parts of chat "
            "messages): there is nothing to depend on. Rollouts that verl and EasyR1 write hold no "
            "images: add a column with the paths"
        )
    if request.generate:
        check_questions(found.rows)
    print(found.description())
    return found


def _possible(
    request: ScoreRequest, views: Mapping[str, View], model: Any, found: Responses
) -> dict[str, View]:
    """The views and controls that this model and file can be scored under."""
    family = family_of(model.config.model_type)
    if request.token_rule and not family.changes_pixels:
        raise ValueError(
            f"--attribute hides parts of images, which is not known for "
            f"{model.config.model_type!r}: leave it out"
        )
    controls = controls_for(views, family) if request.controls else {}
    return without_other_images({**views, **controls}, without_others(found.rows))


def _about(
    request: ScoreRequest,
    found: Responses,
    model: Any,
    views: Mapping[str, View],
    command: str,
) -> dict[str, Any]:
    """What `run.json` holds: everything that decides the numbers."""
    return {
        "command": command,
        "kind": "score",
        **request.decides(),
        "views": {name: repr(view) for name, view in views.items()},
        "prompt": find_prompt(request.prompt).about(),
        "data": {
            "source": found.source,
            "columns": found.taken,
            "rows": len(found.rows),
            "bad": len(found.bad),
            "fingerprint": found.fingerprint(),
        },
        "weights_hash": weights_hash(model),
        "computed_on": f"{model.device.type} {model.dtype}",
        "versions": environment(),
    }


def _sample(
    request: ScoreRequest, model: Any, processor: Any, found: Responses, folder: Path
) -> list[Answered]:
    sampled = sample_responses(
        model,
        processor,
        found.rows,
        request.generate,
        folder / "responses.jsonl",
        found.limits,
        temperature=request.temperature,
        max_new_tokens=request.max_new_tokens,
        seed=request.seed,
    )
    shown = tqdm(sampled, "sampling", len(found.rows), unit="question", disable=None)
    return [row for rows in shown for row in rows]


def _scorer(
    request: ScoreRequest,
    model: Any,
    processor: Any,
    views: Mapping[str, View],
    rows: Sequence[Answered],
    found: Responses,
) -> Scorer:
    tokens = [tokens_of(processor.tokenizer, row) for row in rows]
    names, samples = [row.prompt_id for row in rows], [row.sample for row in rows]
    options = {
        "temperature": request.temperature,
        "exact_kl": request.exact_kl,
        "extras": request.extras,
        "chunk_rows": request.batch_size,
    }
    draws = Draws(request.seed, 0, names, samples)
    return Scorer(model, processor, views, rows, tokens, draws, found.limits, options)


def _write_table(folder: Path, records: Sequence[Mapping[str, Any]], views: list[str]) -> None:
    try:
        write_token_table(folder / "tokens.parquet", records, views)
    except ImportError as error:
        print(error)
