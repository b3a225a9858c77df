"""`sightline score`: how much each token of given responses hangs on the image.

A run goes through the same steps however often it was interrupted: read, sample if asked, score in
batches that are always the same, put together, attribute, sum up. What a step has written is not
done again.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from .algorithms import algorithm_class
from .attribution import check_rule
from .attribution_run import attribute
from .checkpoints import check_same_run
from .data import Limits
from .data.loading import write_bad_rows
from .draws import Draws
from .families import family_of
from .grounding import credit, summarise, summary_lines
from .named_views import CONTROL, controls_for, parse_views
from .process import quiet_libraries, use_threads
from .prompts import find_prompt
from .records import (
    append_lines,
    environment,
    keep_lines,
    new_run_folder,
    read_lines,
    save_images,
    telling_what_is_kept,
    token_records,
    write_json,
)
from .responses import Answered, Responses, complaint, read_responses, tokens_of
from .rewards import EXTRACTORS, REWARDS, Verifier
from .sampled_responses import check_questions, sample_responses
from .score_request import ScoreRequest
from .scorer import Scorer, without_others
from .scoring_model import load_model, weights_hash
from .token_labels import label_tokens
from .token_table import write_token_table
from .views import OtherImage, View

PROBED = 4  # responses scored first: do they hang on the image at all, and how exactly?
PARTIAL = "tokens.partial.jsonl"  # what is scored so far, in the order of the batches


def score(request: ScoreRequest, command: str = "") -> dict[str, Any]:
    """Score a file of responses into a run folder, or go on with it.

    Args:
        command: for `run.json`.

    Returns:
        What `result.json` holds.
    """
    quiet_libraries()
    views = _views(request)
    found = _read(request)
    use_threads(request.threads)
    model, processor = load_model(request.model, request.dtype, request.device)
    family = family_of(model.config.model_type)
    if request.token_rule and not family.changes_pixels:
        raise ValueError(
            f"--attribute hides parts of images, which is not known for "
            f"{model.config.model_type!r}: leave it out"
        )
    if request.controls:
        views |= controls_for(views, family)
    if missing := without_others(found.rows):
        views = _without_other_images(views, missing)
    folder = Path(request.output_dir)
    about = _about(request, found, model, views, command)
    begun = _is_begun(folder)
    if begun:
        check_same_run(folder, about)
    else:
        new_run_folder(folder)
    if begun and (folder / "result.json").exists() and (folder / "tokens.jsonl").exists():
        return _say(json.loads((folder / "result.json").read_bytes()), folder)
    with telling_what_is_kept(folder):
        rows = found.rows
        if request.generate:
            if not begun:
                write_json(folder / "run.json", about)
            rows = _sample(request, model, processor, found, folder)
        rows = _judged(rows, processor, request)
        scorer = _scorer(request, model, processor, views, rows, found.limits)
        floor = _probe(scorer)
        if not begun:  # not before: a request may fail until here
            write_json(folder / "run.json", about)
            if found.bad:
                write_bad_rows(folder, found.bad)
        if not (folder / "tokens.jsonl").exists():
            _score_all(scorer, folder / PARTIAL, folder, request.batch_size)
            _put_together(scorer, folder, request.weights)
        (folder / PARTIAL).unlink(missing_ok=True)
        records = read_lines(folder / "tokens.jsonl")
        if request.token_rule:
            attribute(scorer, records, folder / "attribution.jsonl", request)
        result = {**summarise(records, floor), "bad_rows": len(found.bad)}
        _write_table(folder, records, list(views))
        write_json(folder / "result.json", result)
    return _say(result, folder)


def _say(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    print("\n".join([*summary_lines(result), f"report: sightline report {folder}"]))
    return result


def _is_begun(folder: Path) -> bool:
    """Whether the folder holds a run of ours, finished or not."""
    try:
        return json.loads((folder / "run.json").read_bytes())["kind"] == "score"
    except (OSError, ValueError, KeyError, TypeError):  # of another kind, or nothing
        return False


def _views(request: ScoreRequest) -> dict[str, View]:
    """The views asked for, and those that the weights asked for need."""
    if request.token_rule:
        check_rule(request.token_rule)
    if request.token_rule and request.batch_size < 2:
        raise ValueError("--attribute needs a --batch-size of at least 2")
    if request.extractor not in EXTRACTORS:
        raise ValueError(
            f"--extractor must be one of {', '.join(EXTRACTORS)}, got {request.extractor!r}"
        )
    views = parse_views(request.views)
    for name in filter(None, request.weights.split(",")):
        for view_name, view in algorithm_class(name)().views().items():
            if views.setdefault(view_name, view) != view:
                raise ValueError(f"--weights {name} needs the view {view_name} to be {view}")
    return views


def _read(request: ScoreRequest) -> Responses:
    found = read_responses(
        request.responses,
        images=Path(request.images).expanduser() if request.images else None,
        prompt=find_prompt(request.prompt),
        answered=not request.generate,
        max_pixels=request.max_pixels,
        allow_outside_root=request.allow_outside_root,
    )
    if found.bad and (request.bad_rows == "error" or not found.rows):
        raise ValueError(complaint(found))
    if not any(row.cells for row in found.rows):
        raise ValueError(
            f"no row of {found.source} has an image (columns images or image): there is nothing "
            "to depend on"
        )
    if request.generate:
        check_questions(found.rows)
    print(found.description())
    return found


def _without_other_images(views: Mapping[str, View], missing: Sequence[str]) -> dict[str, View]:
    """The views that can be had where not every row has another's picture beside it."""
    kept = {name: view for name, view in views.items() if not isinstance(view, OtherImage)}
    lost = [name for name in views if name not in kept]
    for name in lost:
        if not name.startswith(CONTROL):
            raise ValueError(
                f"view {name!r} needs another image for each row: there is none for {missing[0]!r}"
            )
        print(
            f"{name} is left out: for {len(missing)} row(s), the first {missing[0]!r}, no other "
            "row has other images in as many places"
        )
    return kept


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


def _judged(rows: Sequence[Answered], processor: Any, request: ScoreRequest) -> list[Answered]:
    """The rows, those with a gold and without a reward judged by the verifier."""
    judged = list(rows)
    places = [p for p, row in enumerate(rows) if row.gold and row.reward is None]
    if not places:
        return judged
    if importlib.util.find_spec("math_verify") is None:
        print(
            f"{len(places):,} answers are not judged: that needs math-verify, pip install "
            "'sightline[rewards]'"
        )
        return judged
    texts = [tokens_of(processor.tokenizer, rows[place]).text for place in places]
    verdicts = Verifier(request.extractor).verdicts(texts, [rows[place].gold for place in places])
    for place, verdict in zip(places, verdicts, strict=True):
        judged[place] = replace(rows[place], reward=REWARDS[verdict], reward_reason=verdict.value)
    return judged


def _scorer(
    request: ScoreRequest,
    model: Any,
    processor: Any,
    views: Mapping[str, View],
    rows: Sequence[Answered],
    limits: Limits,
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
    return Scorer(model, processor, views, rows, tokens, draws, limits, options)


def _probe(scorer: Scorer) -> float:
    """The noise floor: how far scores move when the longest responses are scored one by one.

    Raises:
        ValueError: no token of them hangs on the image under any view.
    """
    places = [p for p in _longest_first(scorer) if scorer.rows[p].cells][:PROBED]
    # a batch of one has no other layout to be compared with
    together = places if len(places) > 1 else places * 2
    probing = replace(scorer, options={**scorer.options, "chunk_rows": len(together)})
    _, encoded, scored = probing.scored(together)
    asked = [score for name, score in scored.views.items() if not name.startswith(CONTROL)]
    if not any(score.log_ratio.any() for score in asked):
        raise ValueError(
            f"no token of {len(places)} responses changes at all under any view: the image does "
            "not reach the model. Check the chat template and the processor"
        )
    moved = [0.0]
    for index, place in enumerate(places):
        _, _, alone = probing.scored([place])
        real = encoded.mask[index]
        pairs = [(scored.log_probs, alone.log_probs)]
        pairs += [(score.log_ratio, alone.views[n].log_ratio) for n, score in scored.views.items()]
        moved += [float((one[index][real] - other[0]).abs().max()) for one, other in pairs]
    return max(moved)


def _longest_first(scorer: Scorer) -> list[int]:
    """Places of the rows in the order of scoring: what does not fit into memory comes first."""
    lengths = [len(tokens.ids) for tokens in scorer.tokens]
    return sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))


def _score_all(scorer: Scorer, path: Path, folder: Path, batch_size: int) -> None:
    """Append the records of each batch that is not yet whole in `path`."""
    order = _longest_first(scorer)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    written = {line["place"] for line in read_lines(path)}
    whole = {place for batch in batches if written.issuperset(batch) for place in batch}
    keep_lines(path, lambda line: line["place"] in whole)
    left = [batch for batch in batches if batch[0] not in whole]
    with tqdm(total=len(order), desc="scoring", unit="response", disable=None) as bar:
        bar.update(len(whole))
        for batch in left:
            append_lines(path, _records(scorer, batch, folder))
            bar.update(len(batch))


def _records(scorer: Scorer, batch: Sequence[int], folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of `tokens.jsonl` for a batch, each with its place in the file."""
    rows, encoded, scored = scorer.scored(batch)
    own = [scorer.rows[place] for place in batch]
    found = token_records(
        scorer.processor.tokenizer,
        rows,
        encoded,
        scored.views,
        # several responses to a question share its pictures
        images=[
            save_images(folder, {**row, "id": answered.prompt_id})
            for row, answered in zip(rows, own, strict=True)
        ],
        image_tokens=scorer.image_tokens(encoded),
        reward=[row.reward for row in own],
        reward_reason=[row.reward_reason for row in own],
        prompt_id=[row.prompt_id for row in own],
        split=[row.split for row in own],
        chat=[row.prompt for row in own],
    )
    for index, (place, record) in enumerate(zip(batch, found, strict=True)):
        tokens, row, real = scorer.tokens[place], own[index], encoded.mask[index]
        record |= {
            "place": place,
            "response": tokens.text,
            "response_ids": tokens.ids,
            "finished": row.finished,
            "offsets": tokens.spans,
            "log_probs": scored.log_probs[index][real].tolist(),
            "respelt": None
            if tokens.differs is None
            else {"given": row.text, "first_difference": tokens.differs},
            "labels": row.labels or (row.spans and label_tokens(tokens.texts, row.spans)),
        }
        for name, tables in scored.extras.items() if encoded.num_images[index] else ():
            record["views"][name] |= {n: _values(t, index, real) for n, t in tables.items()}
        yield record


def _values(table: Tensor, index: int, real: Tensor) -> list[float]:
    return table[index][real].tolist()


def _put_together(scorer: Scorer, folder: Path, weights: str) -> None:
    """Write `tokens.jsonl` in the order of the file, with the credit that algorithms give."""
    records = sorted(read_lines(folder / PARTIAL), key=lambda record: record.pop("place"))
    assert len(records) == len(scorer.rows), "a response was lost"
    credits = {name: credit(records, name) for name in filter(None, weights.split(","))}
    for index, record in enumerate(records):
        if credits:
            record["credit"] = {name: values[index] for name, values in credits.items()}
    draft = folder / "tokens.jsonl.tmp"
    draft.unlink(missing_ok=True)
    append_lines(draft, records)
    draft.replace(folder / "tokens.jsonl")


def _write_table(folder: Path, records: Sequence[Mapping[str, Any]], views: list[str]) -> None:
    try:
        write_token_table(folder / "tokens.parquet", records, views)
    except ImportError as error:
        print(error)
