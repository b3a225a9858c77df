"""Every private name of TRL and of its Trainer that Sightline touches, and no other file does.

What is checked here is what the contract tests cover; anything else is refused with a sentence.
Nothing turns into plain GRPO in silence.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
import trl
from trl import GRPOTrainer

from ...encoding import Encoded

TESTED = ("1.16.0",)
WRAPPED = {"_generate_and_score_completions": ["self", "inputs"]}


def check_methods() -> None:
    """Raise unless TRL's methods are the ones this engine was tested with."""
    for name, expected in WRAPPED.items():
        method = getattr(GRPOTrainer, name, None)
        found = list(inspect.signature(method).parameters) if method else None
        if found != expected:
            raise ImportError(
                f"trl {trl.__version__} is not supported: GRPOTrainer.{name} takes {found}, "
                f"expected {expected}. Tested with trl {', '.join(TESTED)}: "
                f"pip install 'trl=={TESTED[-1]}'"
            )


def check_settings(trainer: Any) -> None:
    """Raise on a setting under which token-level credit would be wrong or is untested."""
    args, tokenizer = trainer.args, trainer._tokenizer
    refusals = {
        "importance_sampling_level='sequence'": (
            args.importance_sampling_level != "token",
            "one ratio per response sends its gradient to every token, whatever its weight; "
            "set importance_sampling_level='token'",
        ),
        f"padding_side={tokenizer.padding_side!r}": (
            tokenizer.padding_side != "left",
            "image markers would be misplaced; load the processor with padding_side='left'",
        ),
        f"reward functions of one name, {trainer.reward_func_names}": (
            len(set(trainer.reward_func_names)) < len(trainer.reward_func_names),
            "their rewards could not be told apart in the log; give each a name of its own",
        ),
        "several processes": (
            trainer.accelerator.num_processes > 1,
            "weights are computed on one process only for now; run one process",
        ),
        "use_vllm": (args.use_vllm, "not tested yet; set use_vllm=False"),
        "tools or environments": (
            bool(trainer.tools) or trainer.environment_factories is not None,
            "not tested; pass none",
        ),
        "dropout": (
            _has_dropout(trainer.model) and not args.disable_dropout,
            "the loss would compare log-probabilities under different masks; set "
            "disable_dropout=True",
        ),
    }
    for name, (refused, reason) in refusals.items():
        if refused:
            raise ValueError(f"PerceptionGRPOTrainer refuses {name}: {reason}")


def suppress_image_tokens(trainer: Any) -> None:
    """Never sample a token that stands for picture content: it would shift the images (T55)."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    known = trainer.model.config.to_dict()
    ids = {known[name] for name in names if known.get(name) is not None}
    asked = (trainer.args.generation_kwargs or {}).get("suppress_tokens", [])
    trainer.generation_config.suppress_tokens = sorted({*ids, *asked})
    trainer.generation_kwargs["suppress_tokens"] = trainer.generation_config.suppress_tokens


def read(output: Mapping[str, Any]) -> Encoded:
    """TRL's rollout batch in our names; rows keep the order of the inputs."""
    mask = output["completion_mask"].bool()
    pictures = ("pixel_values", "image_grid_thw", "mm_token_type_ids")
    inputs = {
        "input_ids": torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
        "attention_mask": torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
        **{name: output[name] for name in pictures if name in output},
    }
    num_images = output.get("num_images") or [0] * len(mask)
    return Encoded(inputs, output["completion_ids"], mask, list(num_images))


def rewards(trainer: GRPOTrainer, count: int) -> list[float]:
    """The weighted sum of rewards of the last `count` responses; a reward of None adds nothing."""
    columns = [list(values)[-count:] for values in trainer._logs["rewards"].values()]
    weights = trainer.reward_weights.tolist()
    return [
        sum(w * value for w, value in zip(weights, row, strict=True) if not math.isnan(value))
        for row in zip(*columns, strict=True)
    ]


def log(trainer: GRPOTrainer, metrics: Mapping[str, float]) -> None:
    """Hand metrics to TRL's own log, which averages them over a logging window."""
    for name, value in metrics.items():
        trainer._metrics["train"][name].append(value)


def _has_dropout(model: torch.nn.Module) -> bool:
    return any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())
