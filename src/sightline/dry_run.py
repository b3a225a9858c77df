"""`sightline train --dry-run`: one page on what a run would be and cost, and nothing else done."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from transformers import AutoConfig, AutoImageProcessor
from trl import GRPOConfig

from . import tasks, tiny_vlm
from .algorithms import Algorithm
from .data.sources import local_place
from .engines.trl.support import check_arguments
from .estimate import arithmetic, logits_avoided, memory, moved_below, peak, work
from .job import TEXT_TOKENS, Job
from .model_shape import ModelShape, model_place, shape_of
from .run_arguments import RunArguments, check_rewards

GIB = 2**30
SPEED = 400e12  # FLOPs per second and GPU: two fifths of what an H100 does at most in bfloat16
UNSHOWN = {"output_dir", "use_cpu", "steps_per_generation", "generation_batch_size"}


def page(run: RunArguments, algorithm: Algorithm, args: GRPOConfig) -> str:
    """What `sightline train` with these settings would do; raises where it would refuse to."""
    check_plan(run, args)
    job = job_of(run, args, run.rows)
    if job.prompts > run.rows:
        raise ValueError(
            f"--rows must fill one rollout batch of {job.prompts} prompts, got {run.rows}"
        )
    parts = [
        _table("run", _settings(run, args)),
        _table(f"algorithm: {run.algorithm}", asdict(algorithm).items()),
        _table("settings of TRL that are not its defaults", _changed(args)),
        _memory(job),
        _steps(job, run),
        _work(job, algorithm),
    ]
    if notes := _notes(job, run):
        parts.append("Note\n" + "\n".join(f"  - {note}" for note in notes))
    return "\n\n".join(parts)


def check_plan(run: RunArguments, args: GRPOConfig) -> None:
    """Raise where a run with these settings would refuse to start, whatever its data and model."""
    check_arguments(args, run.entropy_penalty)
    check_rewards(run, args)
    if run.data is None:
        tasks.load(run.task)


def job_of(run: RunArguments, args: GRPOConfig, questions: int) -> Job:
    """The run on so many questions, as far as its cost depends on it.

    Raises:
        ValueError: how many tokens an image takes is not known for the model's family.
        OSError: the model's configuration cannot be read.
    """
    shape, pixels = _model(run)
    processes = run.processes or args.world_size
    return Job(shape, args, processes, run.sharding, run.lora_rank, questions, pixels)


def _model(run: RunArguments) -> tuple[ModelShape, tuple[int, int]]:
    """The model's shape, and the least and most pixels of an image."""
    image_processor: Any
    if run.model == "tiny":
        processor = tiny_vlm.build_processor(tasks.load(run.task).corpus())
        shape = shape_of(tiny_vlm.build_model(processor).config)
        image_processor = processor.image_processor
    else:
        place = model_place(run.model)
        shape = shape_of(AutoConfig.from_pretrained(place))
        # not needed where the run says what it would say
        known = run.min_pixels and run.max_pixels
        image_processor = None if known else AutoImageProcessor.from_pretrained(place)
    size = {} if image_processor is None else image_processor.size
    return shape, (
        run.min_pixels or size["shortest_edge"],
        run.max_pixels or size["longest_edge"],
    )


def _settings(run: RunArguments, args: GRPOConfig) -> list[tuple[str, Any]]:
    """Sightline's own settings, but for those of the other source of rows."""
    hidden = {"algorithm", "dry_run"}
    hidden |= {"task"} if run.data else {"data", "data_root", "columns", "bad_rows", "prompt"}
    hidden |= set() if run.lora_rank else {"lora_alpha"}
    shown = {name: value for name, value in asdict(run).items() if name not in hidden}
    return [*shown.items(), ("output_dir", args.output_dir)]


def _changed(args: GRPOConfig) -> list[tuple[str, Any]]:
    # the same derivations in both, so that what differs is what was asked for
    plain = GRPOConfig(output_dir="unused", use_cpu=args.use_cpu, bf16=False, report_to="none")
    names = [field.name for field in fields(args) if field.init and field.name not in UNSHOWN]
    names = [name for name in names if args.use_vllm or not name.startswith("vllm_")]
    found = {name: (getattr(args, name), getattr(plain, name)) for name in names}
    shown = [(name, ours) for name, (ours, theirs) in found.items() if ours != theirs]
    return [*shown, ("steps_per_generation", args.steps_per_generation)]


def _memory(job: Job) -> str:
    items = memory(job)
    rows = [
        (f"{item.phase}: {item.name}", f"{item.size / GIB:9.3f} GiB  {item.how}") for item in items
    ]
    rows.append(("most at one time", f"{peak(items) / GIB:9.3f} GiB  always + one of the others"))
    avoided = "not made: neither TRL's loss nor scoring holds them"
    rows.append(("logits of one update pass", f"{logits_avoided(job) / GIB:9.3f} GiB  {avoided}"))
    return _table("memory on each GPU, for the longest rows; estimated, not measured", rows)


def _steps(job: Job, run: RunArguments) -> str:
    args, least_image = job.args, job.image_tokens[0]
    per_update = job.processes * args.per_device_train_batch_size * args.gradient_accumulation_steps
    lengths = (
        f"{TEXT_TOKENS} of text (assumed), {least_image} to {job.image_tokens[1]} per image, up to "
        f"{args.max_completion_length} of response"
    )
    rows = [
        ("processes", job.processes),
        ("rollout batches", f"{job.rollouts} of {job.prompts} prompts x {args.num_generations}"),
        ("optimizer steps", f"{job.steps}, {per_update} responses each"),
        ("responses", job.rollouts * job.responses),
        ("tokens of a row", f"{TEXT_TOKENS + least_image + 1} to {job.row_tokens}: {lengths}"),
        (
            "tokens generated",
            f"up to {job.rollouts * job.responses * args.max_completion_length:,}",
        ),
    ]
    if args.num_iterations > 1:
        rows.append(("passes over a rollout batch", args.num_iterations))
    if run.dynamic_sampling_rounds > 1:
        most = run.dynamic_sampling_rounds
        rows.append(("dynamic sampling", f"generates up to {most} times that"))
    return _table("steps, tokens", rows)


def _work(job: Job, algorithm: Algorithm) -> str:
    passes = work(job, algorithm.views())
    plain = sum(p.flops for p in passes if not p.extra and p.name != "generation")
    extra = sum(p.flops for p in passes if p.extra)
    rows = [
        (
            ("+ " if p.extra else "  ") + p.name,
            f"{p.times} per response  {p.flops / 1e12:10.4g} TFLOP"
            + ("" if p.name == "generation" else f"  {100 * p.flops / plain:6.1f} %"),
        )
        for p in passes
    ]
    flops = arithmetic(job, algorithm.views())
    hours = flops / SPEED / job.processes / 3600
    rows.append(("extra for the views", f"{100 * extra / plain:.1f} % of a step of plain GRPO"))
    rows.append(
        (
            "in all, without generation",
            f"{flops / 1e15:,.4g} PFLOP: {hours:.3g} hours on "
            f"{job.processes} GPU(s) at {SPEED / 1e12:.0f} TFLOP/s",
        )
    )
    rows.append(("generation", "apart: it is bound by memory and not by arithmetic"))
    return _table("work, for the longest rows; shares are of a step without generation", rows)


def _notes(job: Job, run: RunArguments) -> list[str]:
    notes = []
    if job.args.use_vllm:
        notes.append("vLLM has not been run with this version on a GPU: docs/engines.md, vLLM")
    if run.sharding != "none":
        notes.append("FSDP has run on two processes of a CPU only, not on GPUs: docs/engines.md")
    if run.data is not None:
        place = local_place(run.data)  # raises
        found = place.description() if place else f"{run.data}, which is taken for a Hub id"
        notes.append(f"data: {found}; no row was read, --rows says how many questions there are")
    pure = job.loaded_width == 2 and job.sharding == "none" and not job.lora_rank
    if pure:
        rate = job.args.learning_rate
        notes.append(
            f"weights in 16 bits and a learning rate of {rate:g}: in bfloat16 a weight above "
            f"{moved_below(rate):.2g} does not move, for the step is rounded away; shard, use LoRA "
            "or float32 weights"
        )
    return notes


def _table(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    return "\n".join([title, *(lines or ["  none"])])
