"""What the processor makes of each row: tokens for its images, and room for them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Bool
from torch import Tensor

from ..encoding import Encoded, encode
from ..families import family_of
from ..scoring import are_found, image_tokens
from .findings import PROBLEM, WARNING, Finding, with_summary

BATCH_ROWS, BATCH_PIXELS = 16, 8_000_000  # decoded at one time
TEMPLATE = "check the chat template, and image_token_id in the model's config"


class Limit(NamedTuple):
    """The most tokens that a prompt and its response may have, and the setting that says so."""

    name: str
    tokens: int


def limit_of(config: Any, args: Any) -> Limit | None:
    """The lowest limit of a run; None where the model names none."""
    limits = []
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    if most is not None:
        limits.append(Limit("the model's max_position_embeddings", most))
    if args.use_vllm and args.vllm_max_model_length is not None:
        limits.append(Limit("--vllm_max_model_length", args.vllm_max_model_length))
    return min(limits, key=lambda limit: limit.tokens, default=None)


def batches(rows: Iterable[dict]) -> Iterator[list[dict]]:
    """`rows` in batches that a processor can hold."""
    batch, pixels = [], 0
    for row in rows:
        size = sum(picture.width * picture.height for picture in row["images"])
        if batch and (len(batch) == BATCH_ROWS or pixels + size > BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(row)
        pixels += size
    if batch:
        yield batch


@dataclass
class Prompts:
    """Looks at prompts, batch by batch, and keeps what it finds.

    Args:
        processor, config: the model's.
        limit: of prompt and response together.
        response: the most tokens that a response may have.
    """

    processor: Any
    config: Any
    limit: Limit | None
    response: int
    rows: int = 0
    longest: int = 0
    most_image_tokens: int = 0
    refused: list[Finding] = field(default_factory=list)
    lost: list[Finding] = field(default_factory=list)
    cut: list[Finding] = field(default_factory=list)

    def look(self, rows: list[dict]) -> list[dict]:
        """Look at a batch of rows with decoded pictures; return those that can be scored."""
        self.rows += len(rows)
        try:
            encoded = encode(self.processor, rows)
        # templates and processors, which may come with a model, raise nearly anything
        except Exception as error:
            if len(rows) > 1:
                self.rows -= len(rows)
                return [kept for row in rows for kept in self.look([row])]
            what = f"the processor refuses it: {type(error).__name__}: {error}"
            do = "remove the row, mend its images, or set --min_pixels and --max_pixels"
            self.refused.append(Finding(PROBLEM, "prompts.processor", what, do, _id(rows[0])))
            return []
        return [row for row, good in zip(rows, self._counts(rows, encoded), strict=True) if good]

    def _counts(self, rows: list[dict], encoded: Encoded) -> Iterator[bool]:
        inputs, images = encoded.inputs, encoded.num_images
        ids, real = inputs["input_ids"], inputs["attention_mask"].bool()
        is_image = family_of(self.config.model_type).find_image(self.config, ids)
        counts = image_tokens(self.config, ids, inputs, images)
        for index, (row, (held, worth)) in enumerate(zip(rows, counts, strict=True)):
            tokens = int(real[index].sum())
            self.longest = max(self.longest, tokens)
            self.most_image_tokens = max(self.most_image_tokens, held)
            found = are_found(images[index], held, worth)
            if not found:
                self.lost.append(_lost(row, images[index], held, worth))
            self._length(row, tokens, is_image[index][real[index]])
            yield found and (self.limit is None or tokens <= self.limit.tokens)

    def _length(self, row: Mapping[str, Any], tokens: int, is_image: Bool[Tensor, " P"]) -> None:
        if self.limit is None or tokens + self.response <= self.limit.tokens:
            return
        name, most = self.limit
        numbers = {"tokens": tokens, "image_tokens": int(is_image.sum()), "limit": most}
        said = f"its prompt has {tokens:,} tokens, {numbers['image_tokens']:,} of them of images"
        if tokens > most:
            inside = cuts_image(is_image, most)
            what = f"{said}; {name} is {most:,}" + (
                ", which cuts inside an image" if inside else ""
            )
            severity = PROBLEM
        else:
            what = f"{said}: {name}, {most:,}, leaves {most - tokens:,} of {self.response:,} tokens"
            what += " to the response"
            severity = WARNING
        do = "smaller images (--max_pixels), a shorter question, or a higher limit"
        self.cut.append(Finding(severity, "prompts.length", what, do, _id(row), numbers=numbers))

    def findings(self) -> list[Finding]:
        """What was found on all rows."""
        rows, longest = f"{self.rows:,} rows", {"rows": self.rows, "longest": self.longest}
        limit = f", the limit {self.limit.tokens:,}" if self.limit else ", there is no limit"
        return [
            *with_summary(
                "prompts.processor",
                self.refused,
                f"the processor takes all {rows}",
                f"the processor refuses {len(self.refused):,} of {rows}",
                {"rows": self.rows, "refused": len(self.refused)},
            ),
            *with_summary(
                "prompts.image-tokens",
                self.lost,
                f"every prompt holds the tokens of its images, {self.most_image_tokens:,} at most",
                f"{len(self.lost):,} of {rows}: image tokens and images do not match",
                {"rows": self.rows, "most": self.most_image_tokens, "lost": len(self.lost)},
            ),
            *with_summary(
                "prompts.length",
                self.cut,
                f"the longest prompt has {self.longest:,} tokens{limit}",
                f"{len(self.cut):,} of {rows} have too long a prompt",
                longest | {"too_long": len(self.cut)},
            ),
        ]


def cuts_image(is_image: Bool[Tensor, " P"], limit: int) -> bool:
    """Whether an end of a prompt is cut off inside an image, leaving `limit` tokens."""
    places = (limit, len(is_image) - limit)  # the first token after the cut, on either side
    return any(bool(is_image[place - 1] & is_image[place]) for place in places)


def _lost(row: Mapping[str, Any], images: int, held: int, worth: int | None) -> Finding:
    numbers = {"images": images, "image_tokens": held}
    of = "" if worth is None else f" worth {worth:,} image tokens"
    if worth is not None:
        numbers["features"] = worth
    what = f"it has {images} image(s){of}, and its prompt holds {held:,}"
    return Finding(PROBLEM, "prompts.image-tokens", what, TEMPLATE, _id(row), numbers=numbers)


def _id(row: Mapping[str, Any]) -> str:
    return str(row["id"])
