"""What a run needs: bytes on each GPU, and arithmetic. All formulas are here and nowhere else.

They are upper bounds for the longest rows, from the model's shape and the settings alone, and count
what grows with either. Left out: the CUDA context, memory that the allocator holds but does not
use, and buffers of kernels; leave a tenth of a card free.
"""

from collections.abc import Mapping
from typing import NamedTuple

from .job import TEXT_TOKENS, Job
from .model_shape import Stack
from .views import Blind, TextOnlyPrompt, View

# Bytes of optimizer state per trained parameter, where not two numbers of the parameter's own type
STATES = {
    "sgd": 0.0,
    "adafactor": 0.0,  # a row and a column per matrix
    "lion_32bit": 4.0,
    "paged_lion_32bit": 4.0,
    "lion_8bit": 1.0,
    "paged_lion_8bit": 1.0,
    "adamw_torch_8bit": 2.0,
    "adamw_bnb_8bit": 2.0,
    "adamw_8bit": 2.0,
    "paged_adamw_8bit": 2.0,
    "adamw_torch_4bit": 1.0,
    "paged_adamw_32bit": 8.0,
}


class Item(NamedTuple):
    """One line of the memory table.

    Args:
        phase: "always", or the one of the phases that it is there in: phases take turns.
    """

    phase: str
    name: str
    size: float  # bytes
    how: str


class Pass(NamedTuple):
    """One line of the table of work.

    Args:
        extra: it is there for the algorithm's views; plain GRPO does without.
        times: it is made per response.
        flops: of all of them together.
    """

    name: str
    extra: bool
    times: int
    flops: float


def memory(job: Job) -> list[Item]:
    """Bytes on each GPU."""
    shape, args = job.shape, job.args
    number = 2 if job.half else 4
    update = args.per_device_train_batch_size * job.row_tokens
    patches = args.per_device_train_batch_size * job.image_tokens[1] * shape.patches
    language = _kept(shape.language, update, args.gradient_checkpointing, number)
    vision = _kept(shape.vision, patches, args.gradient_checkpointing, number)
    if job.lora_rank:  # nothing in the tower is trained, so nothing is kept for it
        vision = _working_set(shape.vision, patches, number)
    scoring = _working_set(shape.language, update, number)
    scoring += _working_set(shape.vision, patches, number)
    pixels = job.local_responses * job.image_tokens[1] * shape.patches * shape.patch_values * 4
    how = "inputs of all layers, one layer whole" if args.gradient_checkpointing else "all layers"
    return [
        *_resident(job),
        Item("always", "pixels of the rollout batch", pixels, "float32, as the processor gives"),
        Item("update", "activations, language model", language, how),
        Item("update", "activations, vision tower", vision, "frozen" if job.lora_rank else how),
        Item("scoring", "one forward pass", scoring, "one layer at a time, no gradient"),
        *_generation(job, number),
    ]


def peak(items: list[Item]) -> float:
    """Bytes in the phase that needs most."""
    phases = {item.phase for item in items}
    return max(sum(i.size for i in items if i.phase in ("always", phase)) for phase in phases)


def logits_avoided(job: Job) -> float:
    """Bytes of the float32 logits of one update pass, which neither TRL's head nor ours makes."""
    tokens = job.args.per_device_train_batch_size * job.args.max_completion_length
    return 4.0 * tokens * job.shape.vocabulary


def _resident(job: Job) -> list[Item]:
    """Weights, gradients and optimizer state.

    Under mixed precision accelerate makes FSDP keep what is trained in float32. PEFT keeps adapters
    in float32.
    """
    total, width = job.shape.parameters, job.loaded_width
    share = job.processes if job.sharding != "none" else 1
    if job.lora_rank:
        trained, held = job.shape.adapters(job.lora_rank), 4.0
    else:
        trained = total
        held = 4.0 if job.sharding == "fsdp" and job.half else float(width)
    states = STATES.get(str(getattr(job.args.optim, "value", job.args.optim)), 2 * held)
    items = []
    if job.lora_rank:
        items.append(Item("always", "frozen weights", total * width / share, f"{width} bytes each"))
    name = "adapters" if job.lora_rank else "weights"
    items += [
        Item("always", name, trained * held / share, f"{held:g} bytes each"),
        Item("always", "gradients", trained * held / share, f"{held:g} bytes each"),
        Item("always", "optimizer", trained * states / share, f"{states:g} bytes each"),
    ]
    if job.sharding == "fsdp":
        table = job.shape.vocabulary * job.shape.language.width
        layer = job.shape.language.parameters / job.shape.language.layers
        gathered = 2 * max(table, layer) * (2 if job.half else 4)
        items.append(Item("always", "gathered weights", gathered, "two of the largest units"))
    elif job.processes > 1:
        items.append(Item("always", "DDP's buckets", trained * held, "a copy of the gradients"))
    if job.half and width == 4 and job.sharding == "none":
        items.append(Item("update", "autocast's copies", 2.0 * total, "2 bytes a weight"))
    return items


def _generation(job: Job, number: int) -> list[Item]:
    """The cache of keys and values, 2 x layers x keys per token; and reading the prompts.

    `generate` of transformers answers all of a process's prompts in one batch.
    """
    stack = job.shape.language
    per_token = 2.0 * stack.layers * stack.keys * number
    if job.args.use_vllm and job.args.vllm_mode == "server":
        return []
    if job.args.use_vllm:
        phase = "generation" if job.args.vllm_enable_sleep_mode else "always"
        weights = 2.0 * job.shape.parameters / job.args.vllm_tensor_parallel_size
        share = f"at least; it takes {job.args.vllm_gpu_memory_utilization:g} of the card"
        return [
            Item(phase, "vLLM's weights", weights, share),
            Item(phase, "vLLM's cache", per_token * job.row_tokens, "at least: of one response"),
        ]
    prompts = job.local_responses * job.prompt_tokens
    patches = job.local_responses * job.image_tokens[1] * job.shape.patches
    # forward only: the residual, its norm, and gate, up and product of the MLP are alive at once
    reading = number * max(
        prompts * (2 * stack.width + 3 * stack.mlp),
        patches * (2 * job.shape.vision.width + 3 * job.shape.vision.mlp),
    )
    cache = per_token * job.local_responses * job.row_tokens
    return [
        Item("generation", "cache of keys and values", cache, f"{job.local_responses} responses"),
        Item("generation", "reading the prompts", reading, "all at once"),
    ]


def _kept(stack: Stack, tokens: int, checkpointing: bool, number: int) -> float:
    """Bytes kept for the backward pass; with checkpointing as in Chen et al. (arXiv:1604.06174)."""
    if not checkpointing:
        return stack.layers * _working_set(stack, tokens, number)
    return stack.layers * tokens * stack.width * number + _working_set(stack, tokens, number)


def _working_set(stack: Stack, tokens: int, number: int) -> float:
    """Bytes that one block keeps for its own backward pass, without a table of attention weights.

    Counted as Korthikanti et al. (arXiv:2205.05198), section 4.1, do for GPT, here for a block of
    `transformers` with RMS norms and a gated MLP. Of numbers of `number` bytes: the inputs of both
    norms and what they hand on, once before and once after their scale (6 widths); queries, keys,
    values and attention's result (2 queries + 2 keys); gate, its activation, up and their product
    (4 mlp). In float32: the norms' insides (2 widths).
    """
    numbers = 6 * stack.width + 2 * stack.queries + 2 * stack.keys + 4 * stack.mlp
    return float(tokens * (number * numbers + 4 * 2 * stack.width))


def work(job: Job, views: Mapping[str, View]) -> list[Pass]:
    """Passes per response, and what they cost.

    A forward pass takes 2 FLOPs per parameter and token, a backward pass twice that (Kaplan et al.,
    arXiv:2001.08361, section 2.1), with 4 per query, key and layer for attention, of which a causal
    mask needs half. Through frozen weights the backward pass costs as much as the forward one. The
    tower's attention is left out: in Qwen2.5-VL it is within windows.
    """
    shape, args = job.shape, job.args
    response = args.max_completion_length
    tower = 2.0 * shape.vision.parameters * job.image_tokens[1] * shape.patches
    body = _forward(shape.language, job.row_tokens)
    head = 2.0 * shape.language.width * shape.vocabulary * response
    clean = tower + body + head
    again = 1 if args.gradient_checkpointing else 0
    if job.lora_rank:
        update = tower + (2 + again) * body + 2 * head
    else:
        update = (3 + again) * (tower + body) + 3 * head
    passes = [Pass("generation", False, 1, clean)]
    if job.asks_for_old_log_probs:
        passes.append(Pass("old log-probs", False, 1, clean))
    if args.beta:
        passes.append(Pass("reference model", False, 1, clean))
    times = args.num_iterations
    passes.append(Pass("update", False, times, times * update))
    if views and not job.hands_over:
        passes.append(Pass("the image again", True, 1, clean))
    for name, view in views.items():
        short = isinstance(view, TextOnlyPrompt) or (
            isinstance(view, Blind) and (view.by == "drop" or (view.by == "auto" and shape.drops))
        )
        text = _forward(shape.language, TEXT_TOKENS + response) + head
        how = "no image tokens, no tower" if short else "with the tower"
        passes.append(Pass(f"view {name}: {how}", True, 1, text if short else clean))
    return passes


def arithmetic(job: Job, views: Mapping[str, View]) -> float:
    """FLOPs of the whole run, without those of generation, which memory bounds and not they."""
    passes = [p for p in work(job, views) if p.name != "generation"]
    return job.rollouts * job.responses * sum(p.flops for p in passes)


def _forward(stack: Stack, tokens: int) -> float:
    attention = 2.0 * stack.layers * stack.queries * tokens**2
    return 2.0 * stack.parameters * tokens + attention


def moved_below(learning_rate: float) -> float:
    """The size from which on weights in bfloat16 do not move by a whole `learning_rate`.

    A bfloat16 has 8 significant bits: a change of less than half of its last one is rounded away,
    2 ** (exponent - 8) for a weight of 2 ** exponent. Adam's steps are the learning rate at most.
    """
    exponent = 0
    while 2.0 ** (exponent - 8) > learning_rate:
        exponent -= 1
    return 2.0 ** (exponent + 1)
