"""Plain-torch GRPO and DAPO with token weights: the oracle that engines are held to.

Deliberately naive: one response at a time, full logits, no padding, the formulas written out.
"""

import torch
from torch import Tensor


def reference_loss(
    model: torch.nn.Module,
    batch: dict,
    weights: Tensor,
    advantages: Tensor,
    loss_type: str,
    temperature: float = 1.0,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
) -> Tensor:
    """The loss of one on-policy update on `batch`, TRL's output dict; its ratio starts at 1.

    ``f_t = -min(r A w_t, clip(r, 1 - low, 1 + high) A w_t)``; DAPO averages over all tokens of the
    batch, GRPO over the tokens of each response and then over responses.
    """
    token_losses = []
    patches = iter(batch["pixel_values"].split(batch["image_grid_thw"].prod(1).tolist()))
    grids = iter(batch["image_grid_thw"].split(1))
    for row, images in enumerate(batch["num_images"]):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        ids = torch.cat([prompt, completion])[None]
        pictures = [(next(patches), next(grids)) for _ in range(images)]
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            pixel_values=torch.cat([p for p, _ in pictures]),
            image_grid_thw=torch.cat([g for _, g in pictures]),
            use_cache=False,
        ).logits[0, len(prompt) - 1 : -1]
        log_probs = (logits / temperature).log_softmax(-1)[
            torch.arange(len(completion)), completion
        ]
        ratio = (log_probs - log_probs.detach()).exp()
        credit = advantages[row] * weights[row, : len(completion)]
        clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
        token_losses.append(-torch.minimum(ratio * credit, clipped * credit))
    if loss_type == "dapo":
        return torch.cat(token_losses).mean()
    if loss_type == "grpo":
        return torch.stack([losses.mean() for losses in token_losses]).mean()
    raise ValueError(f"the reference knows dapo and grpo, got {loss_type!r}")
