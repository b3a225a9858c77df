"""Responses that the model itself gives, the same ones however often the run was interrupted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data import Limits
from ..encoding import encode
from ..families import family_of
from ..records import append_lines, keep_lines, read_lines
from ..views import draw_seed
from .answered import Answered


def sample_responses(
    model: Any,
    processor: Any,
    questions: Sequence[Answered],
    count: int,
    path: Path,
    limits: Limits,
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> Iterator[list[Answered]]:
    """`count` responses to each question, kept in `path` and not sampled again.

    Each question is sampled in a batch of its own from a generator of its own, named by the run's
    seed and the question: what it answers does not depend on what else is asked. Sampled from the
    whole distribution at `temperature`, for which dependency is an unbiased estimate; the model's
    own top-k, top-p and repetition penalty are set aside.
    """
    done: dict[str, list[dict]] = {}
    for line in read_lines(path):
        done.setdefault(line["prompt_id"], []).append(line)
    # all of a question are drawn together: those of one that was interrupted are drawn again
    keep_lines(path, lambda line: len(done[line["prompt_id"]]) == count)
    for question in questions:
        lines = done.get(question.prompt_id, [])
        if len(lines) != count:
            rows = [question.row(limits)] * count
            key = draw_seed(seed, 0, question.prompt_id, None, 0, "generate")
            ids = _generate(model, processor, rows, temperature, max_new_tokens, key)
            lines = [_line(processor.tokenizer, question, n, found) for n, found in enumerate(ids)]
            append_lines(path, lines)
        yield [
            replace(
                question,
                id=line["id"],
                sample=line["sample"],
                ids=line["response_ids"],
                finished=line["finished"],
            )
            for line in sorted(lines, key=lambda line: line["sample"])
        ]


def check_questions(questions: Sequence[Answered]) -> None:
    """Raise where two rows put one question: each is to be sampled as often as asked."""
    seen: dict[str, str] = {}
    for question in questions:
        if question.prompt_id in seen:
            raise ValueError(
                f"the rows {seen[question.prompt_id]!r} and {question.id!r} put one question: with "
                "--generate each must stand there once"
            )
        seen[question.prompt_id] = question.id


@torch.no_grad()
def _generate(
    model: Any,
    processor: Any,
    rows: list[dict],
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> list[list[int]]:
    """Token ids of one response per row, the end token included where there is one."""
    family_of(model.config.model_type)  # before minutes are spent on what cannot be scored
    inputs = encode(processor, rows).to(model.device).inputs
    config = model.config
    names = ("image_token_id", "video_token_id")
    suppressed = [i for name in names if (i := getattr(config, name, None)) is not None]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generated = model.generate(
            **inputs,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=max_new_tokens,
            suppress_tokens=suppressed,
        )
    end = model.generation_config.eos_token_id
    ends = {processor.tokenizer.eos_token_id, *(end if isinstance(end, list) else [end])}
    answers = []
    for ids in generated[:, inputs["input_ids"].shape[1] :].tolist():
        stop = next((place + 1 for place, i in enumerate(ids) if i in ends), len(ids))
        answers.append(ids[:stop])
    return answers


def _line(tokenizer: Any, question: Answered, number: int, ids: list[int]) -> dict[str, Any]:
    return {
        "id": f"{question.id}-{number}",
        "prompt_id": question.prompt_id,
        "sample": number,
        "response": tokenizer.decode(ids, skip_special_tokens=True),
        "response_ids": ids,
        "finished": ids[-1] in tokenizer.all_special_ids,
    }
