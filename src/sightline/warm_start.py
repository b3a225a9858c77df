"""Supervised fine-tuning that gives the tiny VLM something for reinforcement learning to improve.

Trained end to end from random weights, a model of this size guesses for a thousand steps before it
looks at the image. Three stages avoid that:

1. *alignment*: each merged image token is pulled towards the word for what stands there;
2. *transcription*: the model says what it reads, and nothing else;
3. *prose*: full responses, in the wording that reinforcement learning will sample; first with
   the words that carry information counting more, then as they are.

The texts of the last two are by a careless annotator, who takes some digits for others. What is
left to learn is then to read: the vision tower tells the digits apart, the sums follow from what
the model says it reads, but what it says is often wrong.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from . import encoding, tasks, tiny_vlm, token_labels
from .encoding import encode
from .tiny_vlm import build_model, build_processor
from .token_labels import label_tokens, token_texts

PACKAGED = Path(__file__).parent / "warm_digits.safetensors"  # by `python -m sightline.warm_start`


@dataclass(frozen=True)
class WarmStart:
    """How many scenes are drawn and how long each stage takes; the defaults leave half to learn."""

    scenes: int = 3000
    alignment_steps: int = 120
    transcription_steps: int = 200
    emphasis_steps: int = 200
    prose_steps: int = 100
    batch: int = 32
    emphasis: float = 8.0
    misreading: float = 0.6
    learning_rate: float = 1e-3

    def train(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: Qwen2_5_VLProcessor,
        task: ModuleType,
        seed: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Train `model` in place on `task`'s warm split, from `seed` alone.

        A task without `in_view`, because it has no picture that says anything, is not aligned.
        """
        rng = np.random.default_rng([seed, 1])
        rows = task.rows(self.scenes, seed, split="warm")

        def told(row: dict) -> dict:
            return task.misread(row, rng, self.misreading)

        def align(batch: list[dict]) -> Tensor:
            words = [task.in_view(row) for row in batch]
            return alignment_loss(model, processor, batch, words, getattr(task, "LINES", 1))

        def transcribe(batch: list[dict]) -> Tensor:
            # As many again without a picture: the digits must then be guessed, but what follows
            # from them is learned at a fraction of the cost.
            blind = [{**rows[i], "images": []} for i in rng.choice(len(rows), len(batch))]
            batch = [*batch, *blind]
            responses = [task.transcription(told(row), rng) for row in batch]
            return response_loss(model, processor, batch, responses)

        def explain(batch: list[dict], emphasis: float) -> Tensor:
            responses = [task.demonstration(told(row), rng) for row in batch]
            spans = [task.spans(response) for response in responses]
            return response_loss(model, processor, batch, responses, spans, emphasis)

        model.train()
        done = 0
        # Image tokens are cheap without the language model around them: twice the batch.
        for loss_of, size, steps in (
            (align, 2 * self.batch, self.alignment_steps if hasattr(task, "in_view") else 0),
            (transcribe, self.batch, self.transcription_steps),
            (partial(explain, emphasis=self.emphasis), self.batch, self.emphasis_steps),
            (partial(explain, emphasis=1.0), self.batch, self.prose_steps),
        ):
            if not steps:
                continue
            optimizer = torch.optim.AdamW(model.parameters(), self.learning_rate)
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer,
                # up over 20 steps, down over the last quarter
                lambda step, n=steps: min((step + 1) / 20, 1.0, max(n - step, 1) / (n / 4)),
            )
            for _ in range(steps):
                chosen = rng.choice(len(rows), size, replace=False)
                loss = loss_of([rows[i] for i in chosen])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                done += 1
                progress(done)
        model.eval()

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return (
            self.alignment_steps + self.transcription_steps + self.emphasis_steps + self.prose_steps
        )


def recipe_of(task: ModuleType) -> WarmStart:
    """The defaults, with what the task's own `WARM_START` says otherwise."""
    return WarmStart(**getattr(task, "WARM_START", {}))


def load_warm_model(
    task: ModuleType,
    seed: int,
    *,
    recipe: WarmStart | None = None,
    from_scratch: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The tiny VLM after its warm start, and its processor.

    By default it has the weights that come with the package. `from_scratch` makes them here, from
    `seed`, and keeps them in `$SIGHTLINE_CACHE` (by default `~/.cache/sightline`) under a hash of
    all that decides them: recipe, seed, threads, data, versions and the code itself.

    Args:
        recipe: by default the task's own, `recipe_of`.
        progress: told the number of steps done, of `recipe.steps`.
    """
    recipe = recipe or recipe_of(task)
    processor = build_processor(task.corpus())
    model = build_model(processor, seed)
    path = warm_start_path(task, seed, recipe) if from_scratch else PACKAGED
    if path.exists():
        load_weights(model, path)
    else:
        recipe.train(model, processor, task, seed, progress)
        save_weights(model, path, torch.float32)
    progress(recipe.steps)
    return model.eval(), processor


def save_weights(model: nn.Module, path: Path, dtype: torch.dtype, **metadata: str) -> None:
    """Write the parameters of `model`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    weights = {name: value.detach().to(dtype) for name, value in model.named_parameters()}
    save_file(weights, draft, metadata)
    os.replace(draft, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill the parameters of `model` from `path`; every one, and of the same shape, or raise."""
    weights, parameters = load_file(path), dict(model.named_parameters())
    found = {name: tuple(value.shape) for name, value in weights.items()}
    expected = {name: tuple(value.shape) for name, value in parameters.items()}
    if found != expected:
        odd = sorted({*found.items()} ^ {*expected.items()})[0]
        raise ValueError(
            f"{path} holds the weights of another model, for example {odd}: the vocabulary or the "
            "sizes have changed; make it anew with python -m sightline.warm_start"
        )
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)


def warm_start_path(task: ModuleType, seed: int, recipe: WarmStart | None = None) -> Path:
    """Where the weights that `from_scratch` makes are kept, under a hash of all that decides them.

    Of the tasks all files count: they share their words and their drawing.
    """
    code = [inspect.getsource(module) for module in (encoding, tiny_vlm, token_labels)]
    files = [Path(__file__), *sorted(Path(tasks.__file__).parent.glob("*.py"))]
    code += [file.read_text(encoding="utf-8") for file in files]
    made_of = [asdict(recipe or recipe_of(task)), seed, torch.get_num_threads()]
    made_of += [task.__name__, task.fingerprint(), code]
    made_of += [torch.__version__, transformers.__version__, np.__version__]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    root = os.environ.get("SIGHTLINE_CACHE") or Path.home() / ".cache" / "sightline"
    return Path(root) / f"warm-{key}.safetensors"


def alignment_loss(
    model: Any,
    processor: Any,
    rows: list[dict],
    words: list[list[str]],
    lines: int = 1,
) -> Tensor:
    """Cross-entropy, in nats, of naming what stands in the picture from its merged image tokens.

    Args:
        rows: whose pictures must all have one size.
        words: per picture what it shows, line by line from left to right. The words of a line are
            spread evenly over the columns of its image tokens, and compared with the word
            embeddings the language model reads.
        lines: of equal height, one below the other.
    """
    pictures = processor.image_processor(images=[r["images"][0] for r in rows], return_tensors="pt")
    tokens = model.model.visual(
        pictures["pixel_values"], grid_thw=pictures["image_grid_thw"]
    ).pooler_output
    merge = processor.image_processor.merge_size
    _, height, width = (pictures["image_grid_thw"][0] // torch.tensor([1, merge, merge])).tolist()
    per_line, rest = divmod(len(words[0]), lines)
    if height % lines or rest or per_line > width:
        raise ValueError(
            f"{len(words[0])} words in {lines} lines do not fit {height} lines of {width} image "
            "tokens: every line needs as many words, at most as many as it has columns"
        )
    columns = tokens.view(len(rows), lines, height // lines, width, -1).mean(2)
    places = np.linspace(0, width - 1, per_line).round().astype(int)
    ids = torch.tensor([processor.tokenizer.convert_tokens_to_ids(_as_tokens(w)) for w in words])
    vocabulary, targets = ids.unique(return_inverse=True)
    embeddings = model.get_input_embeddings().weight[vocabulary]
    shown = columns[:, :, places].flatten(1, 2)
    logits = 20 * normalize(shown, dim=-1) @ embeddings.T
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def response_loss(
    model: Any,
    processor: Any,
    rows: list[dict],
    responses: list[str],
    spans: list[Sequence[tuple[int, int, str]]] | None = None,
    emphasis: float = 1.0,
) -> Tensor:
    """Weighted mean negative log-probability, in nats, of the response tokens.

    Args:
        spans: per response, its labelled character ranges.
        emphasis: what a labelled token counts; two words in forty would else be learned last.
    """
    encoded = encode(processor, rows, responses)
    logits = model(
        **encoded.inputs, use_cache=False, logits_to_keep=encoded.mask.shape[1] + 1
    ).logits[:, :-1]
    ids = encoded.response_ids[encoded.mask]
    weights = torch.ones(len(ids))
    if spans is not None:
        tokens = [
            token_texts(processor.tokenizer, ids_of_row[real].tolist())
            for ids_of_row, real in zip(encoded.response_ids, encoded.mask, strict=True)
        ]
        labels = [label for t, s in zip(tokens, spans, strict=True) for label in label_tokens(t, s)]
        weights[torch.tensor([label != "other" for label in labels])] = emphasis
    losses = cross_entropy(logits[encoded.mask], ids, reduction="none")
    return (losses * weights).sum() / weights.sum()


def _as_tokens(words: list[str]) -> list[str]:
    return [f"Ġ{word}" for word in words]  # a byte-level vocabulary writes the space as Ġ


def _make_packaged() -> None:
    """Make the weights that come with the package, and say how good they are."""
    from .evaluate import bootstrap_interval, greedy_responses
    from .process import use_threads
    from .rewards import exact_answer
    from .tasks import digits

    use_threads(1)
    processor = build_processor(digits.corpus())
    model = build_model(processor, seed=0)
    WarmStart().train(model, processor, digits, seed=0)
    save_weights(model, PACKAGED, torch.float16)
    load_weights(model, PACKAGED)  # as rounded
    rows = digits.rows(1000, split="heldout")
    responses = greedy_responses(model, processor, rows, 64)
    right = exact_answer(responses, [row["answer"] for row in rows])
    low, high = bootstrap_interval(right)
    print(f"{PACKAGED.name}: {PACKAGED.stat().st_size / 2**20:.1f} MiB")
    print(f"held-out accuracy {np.mean(right):.1%}, 95 % interval {low:.1%} to {high:.1%}")
    print(f"both digits read right: {digits.reading_accuracy(rows, responses):.1%}")


if __name__ == "__main__":
    _make_packaged()
