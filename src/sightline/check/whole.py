"""All checks of one run, in the order of the page."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText

from ..data.loading import find_rows
from ..data.sources import open_source
from ..data.survey import column_names
from ..dry_run import check_plan
from ..model_shape import count, model_place
from ..models import check_model
from ..process import quiet_libraries, use_threads
from ..prompts import NONE, find_prompt
from ..run_arguments import RunArguments, first_look, parse, rewards_of
from ..train import load_model, task_rows
from . import environment
from .cost import USABLE, capacity, cost
from .findings import PROBLEM, WARNING, Finding
from .golds import check_golds, rendered, start_early, unchecked
from .prompts import Prompts, batches, limit_of
from .reach import ROWS, reach
from .rows import Account, Facts, Readable, duplicates, facts, overlap

SKIP = "mend it, or leave such rows out with --bad_rows skip-and-list"
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
AGAIN = "check again where the model can be loaded"


def look(flags: Sequence[str], eval_data: str | None) -> tuple[str, list[Finding]]:
    """What was checked, in words, and what was found.

    Args:
        flags: of `sightline train`.
        eval_data: rows that must share no image with those that are trained on.
    """
    quiet_libraries()
    away = _away(first_look(flags).model)
    run, algorithm, args = parse(flags)
    check_plan(run, args)
    use_threads(1)  # of such small pieces of work, two threads make more waiting than speed
    model = processor = config = None
    if not away:
        model, processor = load_model(run, args)
        config = getattr(model, "config", None) or AutoConfig.from_pretrained(model)
    limit = config and limit_of(config, args)
    seen = Prompts(processor, config, limit, args.max_completion_length or 0)
    extractor = find_prompt(run.prompt).extractor if run.data else None
    thinks = "think_format" in rewards_of(run)

    rows, name, rows_in, taken = _rows(run, args)
    used, sample, started = [], [], False
    for batch in batches(rows):  # the only time that pictures are there
        used += map(facts, batch)
        started = started or start_early(used[-len(batch) :], extractor)
        good = seen.look(batch) if config else []
        sample += [row for row in good if row["images"]][: ROWS - len(sample)]

    needed = ["trl", "rewards" if run.data else "tasks"]
    findings = [environment.versions(), *environment.packages(needed)]
    findings += [*environment.vllm(args.use_vllm, args.vllm_mode), environment.gpu(run.model)]
    bad = rows.bad if isinstance(rows, Readable) else []
    account = Account(name, rows_in, used, bad, taken)
    findings += account.findings()
    findings += duplicates(used)
    if eval_data is not None:
        findings += _evaluation(run, eval_data, used)
    if used:
        findings += _golds(used, extractor, thinks)
        findings += away or seen.findings()
        if not away:
            use_threads(1 if run.model == "tiny" else run.threads)
            findings += _reach(model, processor, args, sample, extractor, thinks)
        findings += cost(run, algorithm, args, len(used), seen.longest)
    return f"{account.title()} for {run.algorithm} on model {run.model}", findings


def _away(name: str) -> list[Finding]:
    """A warning if the model's files are not at hand."""
    try:
        check_model(name)
    except FileNotFoundError:  # the name is wrong
        raise
    except OSError as error:
        return [
            Finding(WARNING, "model.unchecked", f"prompts and model: not checked: {error}", AGAIN)
        ]
    return []


def _rows(run: RunArguments, args: Any) -> tuple[Iterable[dict], str, int, str]:
    """The rows that a run trains on, with decoded pictures; their name; how many; as what read."""
    if run.data is None:
        rows = task_rows(run, args)
        return rows, f"task {run.task}", len(rows), ""
    found = find_rows(
        run.data,
        prompt=find_prompt(run.prompt),
        root=run.data_root,
        columns=run.named_columns(),
        allow_outside_root=run.allow_outside_root,
    )
    severity = PROBLEM if run.bad_rows == "error" else WARNING
    rows = Readable(found, run.rows, severity, SKIP)
    return rows, found.source, found.rows_in, found.taken()


def _evaluation(run: RunArguments, eval_data: str, trained: list[Facts]) -> list[Finding]:
    told = run.named_columns() or {}
    names = column_names(open_source(eval_data))
    found = find_rows(
        eval_data,
        prompt=find_prompt(run.prompt) if run.data else NONE,
        root=run.data_root,
        # told of the data that is trained on: this may be of another source
        columns={part: name for part, name in told.items() if name in names},
        allow_outside_root=run.allow_outside_root,
    )
    rows = Readable(found, len(found), PROBLEM, "mend or remove it")
    evaluation = [facts(row) for row in rows]
    account = Account(found.source, found.rows_in, evaluation, rows.bad, "")
    return [*account.findings(), *overlap(trained, evaluation)]


def _golds(rows: list[Facts], extractor: str | None, thinks: bool) -> list[Finding]:
    try:
        return check_golds(rows, extractor, thinks)
    except ImportError as error:
        return [unchecked(error)]


def _reach(
    model: Any, processor: Any, args: Any, rows: list[dict], extractor: str | None, thinks: bool
) -> list[Finding]:
    if not rows:
        what = "dependency: not checked, for no row that can be scored has an image"
        return [Finding(WARNING, "model.unchecked", what, "mend the rows above")]
    weights = _weights(model, args)
    if isinstance(weights, Finding):
        return [weights]
    golds = [rendered(str(row["answer"]), extractor, thinks) for row in rows]
    return reach(weights, processor, rows, golds)


def _weights(model: Any, args: Any) -> Any:
    """The model on the device that it is to run on; or why it was not loaded."""
    if not isinstance(model, str):
        return model
    dtype = str((args.model_init_kwargs or {}).get("dtype", "float32"))
    config = AutoConfig.from_pretrained(model_place(model))
    with torch.device("meta"):
        size = count(AutoModelForImageTextToText.from_config(config)) * WIDTHS.get(dtype, 4)
    if size > USABLE * capacity():
        what = f"dependency: not checked, for the weights take {size / 2**30:.3g} GiB here"
        return Finding(WARNING, "model.unchecked", what, AGAIN)
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype)
    except OSError as error:
        return Finding(WARNING, "model.unchecked", f"dependency: not checked: {error}", AGAIN)
    except (SafetensorError, RuntimeError) as error:
        what = f"the weights cannot be loaded: {error}"
        return Finding(PROBLEM, "model.weights", what, "download them again")
    return loaded.eval().to("cuda" if torch.cuda.is_available() and not args.use_cpu else "cpu")
