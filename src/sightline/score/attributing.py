"""Attribution of chosen tokens of a scored file, written line by line and resumable."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..records import append_lines, keep_lines, read_lines
from .attribution import attribution_record, sweep_cost, sweep_image
from .request import ScoreRequest
from .scorer import Scorer
from .token_rules import choose_tokens


def attribute(
    scorer: Scorer,
    records: Sequence[Mapping[str, Any]],
    path: Path,
    request: ScoreRequest,
    floor: float,
) -> None:
    """Write `attribution.jsonl`: a line per image of each response that has chosen tokens.

    Args:
        records: the lines of `tokens.jsonl`, in the order of the scorer's rows.
        floor: the run's own noise floor, below which a sweep's own, from a few batches, may lie.
    """
    chosen = {}
    for place, record in enumerate(records):
        if len(chosen) == request.attribute_responses:
            break
        if scorer.rows[place].cells and (tokens := choose_tokens(request.token_rule, record)):
            chosen[place] = tokens
    if not chosen:
        print(f"nothing to attribute: no response has a token of {request.token_rule!r}")
        return
    done = {(line["id"], line["image"]) for line in read_lines(path)}
    keep_lines(path, lambda line: True)  # drops one that was cut off
    encoded = {place: scorer.encoded([place])[1] for place in chosen}
    sizes = (request.attribute_block, request.batch_size)
    total = sum(sweep_cost(scorer.model, one, *sizes) for one in encoded.values())
    print(f"attribution: {len(chosen):,} responses, {total:,} passes")
    with tqdm(total=len(chosen), desc="attribution", unit="response", disable=None) as bar:
        for place, tokens in chosen.items():
            record = records[place]
            for image in range(len(scorer.rows[place].cells)):
                if (record["id"], image) in done:
                    continue
                sweep = sweep_image(
                    scorer.model,
                    scorer.processor,
                    encoded[place],
                    image,
                    fill=request.attribute_fill,
                    block=request.attribute_block,
                    temperature=request.temperature,
                    batch_size=request.batch_size,
                )
                sweep = sweep._replace(noise_floor=max(sweep.noise_floor, floor))
                line = attribution_record(
                    record, image, sweep, request.attribute_fill, request.attribute_block, tokens
                )
                append_lines(path, [line])
            bar.update()
