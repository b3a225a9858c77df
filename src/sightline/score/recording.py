"""What is written of the scores: batch by batch, then in the order of the file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ..records import (
    append_lines,
    keep_lines,
    read_lines,
    save_images,
    save_thumbnail,
    token_records,
)
from ..token_labels import label_tokens
from .grounding import credit
from .scorer import Scorer

PARTIAL = "tokens.partial.jsonl"  # what is scored so far, in the order of the batches


def longest_first(scorer: Scorer) -> list[int]:
    """Places of the rows in the order of scoring: what does not fit into memory comes first."""
    lengths = [len(tokens.ids) for tokens in scorer.tokens]
    return sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))


def score_all(scorer: Scorer, folder: Path, batch_size: int) -> None:
    """Write the records of each batch that is not yet whole in the folder's `PARTIAL`."""
    path = folder / PARTIAL
    order = longest_first(scorer)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    written = {line["place"] for line in read_lines(path)}
    whole = {place for batch in batches if written.issuperset(batch) for place in batch}
    keep_lines(path, lambda line: line["place"] in whole)
    left = [batch for batch in batches if batch[0] not in whole]
    with tqdm(total=len(order), desc="scoring", unit="response", disable=None) as bar:
        bar.update(len(whole))
        for batch in left:
            append_lines(path, batch_records(scorer, batch, folder))
            bar.update(len(batch))


def batch_records(scorer: Scorer, batch: Sequence[int], folder: Path) -> Iterator[dict[str, Any]]:
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
    shown = scorer.shown(batch, rows, encoded)
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
        for name, pictures in shown[index].items():
            saved = [save_thumbnail(folder, row.prompt_id, picture) for picture in pictures]
            record["views"][name]["images"] = saved
        if row.step is not None:
            record["step"] = row.step
        yield record


def _values(table: Tensor, index: int, real: Tensor) -> list[float]:
    return table[index][real].tolist()


def put_together(scorer: Scorer, folder: Path, weights: str) -> None:
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
