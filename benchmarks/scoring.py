"""What scoring views costs: the head, its memory and its error, a blind pass, a training step.

    python benchmarks/scoring.py                        # every section, on one CPU thread
    python benchmarks/scoring.py --only head memory
    python benchmarks/scoring.py --device cuda --rows 4096

Methods that are compared take turns inside each round, in an order that is drawn anew, and each is
divided by the baseline of its own round: clocks, caches and neighbours hit all alike. `itself` is
the baseline timed a second time; a difference no larger than that is none. Writes
`benchmarks/results/scoring-cpu.json` (or `-cuda`), section by section, and prints tables.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import (
    PrinterCallback,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    TrainerCallback,
)
from trl import GRPOConfig

from sightline import ALGORITHMS, Blind, compare_views, jensen_shannon, token_log_probs
from sightline.encoding import Encoded
from sightline.engines.trl import PerceptionGRPOTrainer
from sightline.process import quiet_libraries, use_threads
from sightline.records import environment
from sightline.rewards import exact_answer, think_format
from sightline.run_arguments import TINY_SETTINGS
from sightline.scoring import score_views
from sightline.tasks import digits
from sightline.warm_start import load_warm_model

RESULTS = Path(__file__).parent / "results"
LOGIT_STD = 6.5  # of 151,936 logits in each of 64 rows the largest is then about 35
VIEW_SHIFT = 0.3  # of the hidden states, relative; the median KL is then about 1.2 nats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=7, help="timed ones; one more warms up")
    parser.add_argument("--output", type=Path, help="instead of the file in benchmarks/results")
    head = parser.add_argument_group("head, memory and accuracy: Qwen2.5-VL-3B's head")
    head.add_argument("--vocabulary", type=int, default=151_936)
    head.add_argument("--hidden", type=int, default=2048)
    head.add_argument("--rows", type=int, default=64)
    head.add_argument("--memory-rows", type=int, nargs="+", default=[64, 1024])
    blind = parser.add_argument_group("blind: one clean and one blind pass over a whole model")
    blind.add_argument("--image-tokens", type=int, nargs="+", default=[256, 512, 1024])
    blind.add_argument("--prompt-tokens", type=int, default=32)
    blind.add_argument("--response-tokens", type=int, default=64)
    blind.add_argument("--responses", type=int, default=4)
    demo = parser.add_argument_group("demo: training steps of the tiny model")
    demo.add_argument(
        "--steps", type=int, default=5, help="timed per round and algorithm; one in 5 is recorded"
    )
    demo.add_argument("--batch", type=int, default=TINY_SETTINGS["per_device_train_batch_size"])
    args = parser.parse_args()
    quiet_libraries()
    use_threads(args.threads)
    path = args.output or RESULTS / f"scoring-{args.device}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    for name in args.only:
        load = os.getloadavg()
        result = SECTIONS[name](args)
        content[name] = {"run": {**describe(args), "load_average": [load, os.getloadavg()]}}
        content[name] |= result
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"\n{name}; load average {load[0]:.1f}\n{table(result['results'])}", flush=True)


# --- sections: each takes the arguments and returns {"results": rows of a table, ...}


def head(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each method from hidden states to scores, relative to the sampled estimate.

    must: `exact` at most 1.10 (GPU) or 1.15 (CPU) times `sampled`; moonshot 1.02.
    """
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        states = head_inputs(args, args.rows, dtype)
        seconds = take_turns(
            {
                name: partial(method, *states)
                for name, method in (HEAD_METHODS | {"itself": sampled}).items()
            },
            args.rounds,
            args.device,
        )
        for name, times in seconds.items():
            row = {"dtype": str(dtype).removeprefix("torch."), "method": name}
            results.append(row | compared(times, seconds["sampled"]))
    return {"results": results}


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of each method beyond its inputs, on bfloat16 states.

    must: `exact` at most 64 MiB + 300 B per row.
    """
    results = []
    for rows in args.memory_rows:
        for name in ("sampled", "exact", "exact, extras", "jensen_shannon", "full logits"):
            peak = peak_bytes(args, rows, name)
            allowed = 64 * 2**20 + 300 * rows
            results.append(
                {
                    "rows": rows,
                    "method": name,
                    "MiB": peak / 2**20,
                    "of the fp32 logits of two views": peak / (8 * rows * args.vocabulary),
                    "of what is allowed": peak / allowed,
                }
            )
    return {"results": results}


def accuracy(args: argparse.Namespace) -> dict[str, Any]:
    """Largest and median error in nats against float64, on the same bfloat16 states.

    must: KL within 1e-4; moonshot 2e-5. `kl, bf16 logits` is what rounding logits would do.
    """
    hidden, view_hidden, head_weight, targets = head_inputs(args, args.rows, torch.bfloat16)
    logits, view_logits = (full_logits(h, head_weight) for h in (hidden, view_hidden))
    seen = compare_views(hidden, view_hidden, head_weight, targets, extras=True)
    js = jensen_shannon(hidden, view_hidden, head_weight)
    found = {**seen._asdict(), "jensen_shannon": js}
    exact = from_logits(logits, view_logits, targets)
    rounded = from_logits(logits.bfloat16().double(), view_logits.bfloat16().double(), targets)
    found["kl, bf16 logits"], exact["kl, bf16 logits"] = rounded["kl"], exact["kl"]
    results = []
    for name, values in found.items():
        error = (values.double() - exact[name]).abs()
        results.append(
            {
                "quantity": name,
                "largest error": error.max().item(),
                "median error": error.median().item(),
                "median": exact[name].median().item(),
            }
        )
    return {"largest_logit": float(logits.abs().max()), "results": results}


def blind(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of scoring without the image over seconds of scoring with it, both with their head.

    must: at most 0.6 at 512 image tokens; moonshot 0.35 at 1024. The two passes of one
    `score_views` are told apart by when the model is called the second time.
    """
    model = random_qwen(args)
    calls: list[float] = []
    model.register_forward_pre_hook(lambda *_: calls.append(clock(args.device)))
    results = []
    for count in args.image_tokens:
        encoded = random_responses(model, args, count)
        clean, unseen = [], []
        for _ in range(args.rounds + 1):
            calls.clear()
            start = clock(args.device)
            score_views(model, encoded, {"blind": Blind(by="drop")}, chunk_rows=args.responses)
            end = clock(args.device)
            assert len(calls) == 2, "one clean and one blind pass"
            clean.append(calls[1] - start)
            unseen.append(end - calls[1])
        row = {"image tokens": count, "clean, s": statistics.median(clean[1:])}
        results.append(row | compared(unseen[1:], clean[1:]))
    config = model.config.text_config
    shape = f"{config.num_hidden_layers} layers of {config.hidden_size}"
    return {"model": f"Qwen2.5-VL, random weights, {shape}", "results": results}


def demo(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a training step of each algorithm over GRPO's, in the demo's configuration.

    At a learning rate of 0 the model stays what it is, so that with one seed all algorithms
    sample the same responses, step by step, and step can be compared with step.
    """
    names = list(ALGORITHMS)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(args.rounds):
        random.Random(seed).shuffle(names)
        for name in names:
            seconds[name] += step_seconds(name, seed, args)
    results = [
        {"algorithm": name} | compared(times, seconds["grpo"]) for name, times in seconds.items()
    ]
    return {"results": results}


SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "head": head,
    "memory": memory,
    "accuracy": accuracy,
    "blind": blind,
    "demo": demo,
}


# --- methods of the head: hidden states of both views, the head, targets → scores


def products(hidden: Tensor, view_hidden: Tensor, head_weight: Tensor, _targets: Tensor) -> None:
    """The matrix work alone, in the tiles of the default: the floor."""
    chunk = 1024 if head_weight.device.type == "cpu" else 2048
    for rows, view_rows in zip(hidden.split(512), view_hidden.split(512), strict=True):
        rows, view_rows = rows.float(), view_rows.float()
        for tile in head_weight.split(chunk):
            columns = tile.float().T
            _ = rows @ columns, view_rows @ columns


def sampled(hidden: Tensor, view_hidden: Tensor, head_weight: Tensor, targets: Tensor) -> Any:
    """What k3 needs."""
    log_probs = token_log_probs(hidden, head_weight, targets)
    return log_probs, token_log_probs(view_hidden, head_weight, targets)


def with_extras(hidden: Tensor, view_hidden: Tensor, head_weight: Tensor, targets: Tensor) -> Any:
    return compare_views(hidden, view_hidden, head_weight, targets, extras=True)


def js(hidden: Tensor, view_hidden: Tensor, head_weight: Tensor, _targets: Tensor) -> Tensor:
    return jensen_shannon(hidden, view_hidden, head_weight)


def naive(hidden: Tensor, view_hidden: Tensor, head_weight: Tensor, targets: Tensor) -> Any:
    """Exact KL as public code computes it: logits in the model's dtype, then float32 tables."""
    log_p = (hidden @ head_weight.T).float().log_softmax(1)
    log_q = (view_hidden @ head_weight.T).float().log_softmax(1)
    chosen = log_p.gather(1, targets[:, None]), log_q.gather(1, targets[:, None])
    return *chosen, (log_p.exp() * (log_p - log_q)).sum(1)


HEAD_METHODS: dict[str, Callable[..., Any]] = {
    "products": products,
    "sampled": sampled,
    "exact": compare_views,
    "exact, extras": with_extras,
    "jensen_shannon": js,
    "full logits": naive,
}


# --- inputs


def head_inputs(
    args: argparse.Namespace, rows: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states of two views, a head and targets; logits as large and peaked as real ones."""
    generator = torch.Generator(args.device).manual_seed(0)

    def draw(count: int) -> Tensor:
        # in place: a float32 copy of the head would count as memory
        empty = torch.empty(count, args.hidden, dtype=dtype, device=args.device)
        return empty.normal_(generator=generator)

    hidden, shift = draw(rows).mul_(LOGIT_STD), draw(rows).mul_(LOGIT_STD * VIEW_SHIFT)
    head_weight = draw(args.vocabulary).div_(math.sqrt(args.hidden))
    shape = {"device": args.device, "generator": generator}
    return hidden, hidden + shift, head_weight, torch.randint(args.vocabulary, (rows,), **shape)


def random_qwen(args: argparse.Namespace) -> Any:
    """Qwen2.5-VL with random weights: the 3B one on a GPU, its proportions in small on a CPU.

    In both an image token costs the vision tower as much as a token costs the language model.
    """
    big = args.device == "cuda"
    text = {
        "vocab_size": args.vocabulary if big else 8192,
        "bos_token_id": None,
        "eos_token_id": None,
        "hidden_size": 2048 if big else 256,
        "intermediate_size": 11008 if big else 1376,
        "num_hidden_layers": 36 if big else 4,
        "num_attention_heads": 16 if big else 4,
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [16, 24, 24] if big else [8, 12, 12],
        },
    }
    vision = {
        "depth": 32 if big else 4,
        "hidden_size": 1280 if big else 160,
        "intermediate_size": 3420 if big else 428,
        "num_heads": 16 if big else 4,
        "fullatt_block_indexes": [7, 15, 23, 31] if big else [3],
        "out_hidden_size": text["hidden_size"],
    }
    markers = ("image", "video", "vision_start", "vision_end")
    special = {f"{name}_token_id": place for place, name in enumerate(markers)}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **special
    )
    torch.manual_seed(0)
    with torch.device(args.device):
        model = Qwen2_5_VLForConditionalGeneration(config)
    return model.to(torch.bfloat16 if big else torch.float32).eval()


def random_responses(model: Any, args: argparse.Namespace, image_tokens: int) -> Encoded:
    """Rows of text, an image as nearly square as can be, text and a response."""
    rows, width = args.responses, args.response_tokens
    config, vision = model.config, model.config.vision_config
    generator = torch.Generator().manual_seed(0)
    across = max(n for n in range(1, math.isqrt(image_tokens) + 1) if image_tokens % n == 0)
    merge = vision.spatial_merge_size
    grid = torch.tensor([[1, across * merge, image_tokens // across * merge]]).repeat(rows, 1)
    length = args.prompt_tokens + image_tokens + 2 + width
    ids = torch.randint(4, config.text_config.vocab_size, (rows, length), generator=generator)
    start = args.prompt_tokens // 2
    ids[:, start] = config.vision_start_token_id
    ids[:, start + 1 : start + 1 + image_tokens] = config.image_token_id
    ids[:, start + 1 + image_tokens] = config.vision_end_token_id
    patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    patches = torch.randn(int(grid.prod(1).sum()), patch_values, generator=generator)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == config.image_token_id).long(),
        "pixel_values": patches.to(model.dtype),
        "image_grid_thw": grid,
    }
    mask = torch.ones(rows, width, dtype=torch.bool)
    return Encoded(inputs, ids[:, -width:], mask, [1] * rows).to(args.device)


# --- measuring


def take_turns(
    methods: Mapping[str, Callable[[], Any]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Seconds of each method in each round, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    order, shuffle = list(methods), random.Random(0).shuffle
    for round_number in range(rounds + 1):
        shuffle(order)
        for name in order:
            start = clock(device)
            methods[name]()
            elapsed = clock(device) - start
            if round_number:
                seconds[name].append(elapsed)
    return seconds


def compared(seconds: list[float], baseline: list[float]) -> dict[str, float]:
    """Median time, and median, least and greatest of the ratios taken pair by pair."""
    ratios = [one / other for one, other in zip(seconds, baseline, strict=True)]
    return {
        "seconds": statistics.median(seconds),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "greatest": max(ratios),
    }


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


def peak_bytes(args: argparse.Namespace, rows: int, method: str) -> int:
    """The most memory a method held beyond its inputs: of the process, or of the GPU.

    For the process it is resident memory, which has what libraries allocate for themselves and
    what the allocator wastes; Linux only.
    """
    run, states = HEAD_METHODS[method], head_inputs(args, rows, torch.bfloat16)
    # libraries keep buffers from their first call on
    run(*(state[:64].clone() for state in states[:3]), states[3][:64] % 64)
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(*states)
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # or freed memory would be used again and not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = resident("VmRSS")
    run(*states)
    return resident("VmHWM") - before


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def full_logits(hidden: Tensor, head_weight: Tensor) -> Tensor:
    """In float64; the head is widened tile by tile."""
    return torch.cat([hidden.double() @ t.double().T for t in head_weight.split(4096)], dim=1)


def from_logits(logits: Tensor, view_logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """All that `compare_views` and `jensen_shannon` return, from float64 logits."""
    log_p, log_q = logits.log_softmax(1), view_logits.log_softmax(1)
    p, q = log_p.exp(), log_q.exp()
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return {
        "log_probs": log_p.gather(1, targets[:, None])[:, 0],
        "view_log_probs": log_q.gather(1, targets[:, None])[:, 0],
        "kl": (p * (log_p - log_q)).sum(1),
        "entropy": -(p * log_p).sum(1),
        "view_entropy": -(q * log_q).sum(1),
        "reverse_kl": (q * (log_q - log_p)).sum(1),
        "hellinger": 1 - (p * q).sqrt().sum(1),
        "jensen_shannon": (p * (log_p - log_m) + q * (log_q - log_m)).sum(1) / 2,
    }


class StepClock(TrainerCallback):
    """Seconds of each training step, its rollouts included."""

    def __init__(self, device: str):
        self.device, self.seconds, self.start = device, [], 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = clock(self.device)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(clock(self.device) - self.start)


def step_seconds(name: str, seed: int, args: argparse.Namespace) -> list[float]:
    model, processor = load_warm_model(digits, seed)
    settings = TINY_SETTINGS | {
        "learning_rate": 0.0,
        "per_device_train_batch_size": args.batch,
        "max_steps": args.steps + 1,  # the first one warms up
        "use_cpu": args.device == "cpu",
        "disable_tqdm": True,
        "seed": seed,
    }
    timer = StepClock(args.device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PerceptionGRPOTrainer(
            model=model,
            processing_class=processor,
            algorithm=ALGORITHMS[name](),
            reward_funcs=[exact_answer, think_format],
            train_dataset=digits.rows((args.steps + 1) * args.batch, seed=seed),
            args=GRPOConfig(folder, **settings),
            callbacks=[timer],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return timer.seconds[1:]


# --- writing down


def describe(args: argparse.Namespace) -> dict[str, Any]:
    on_gpu = args.device == "cuda"
    return {
        "command": " ".join(["python", *sys.argv]),
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": environment(),
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*map(cell, r.values())] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
