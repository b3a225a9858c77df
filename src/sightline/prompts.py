"""Prompt formats: what a model is told around a question, and where its answer is to be found.

One object serves training, report and evaluation, and its hash is in `run.json`: a model that is
asked in other words than it was trained on gives other numbers.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .rewards import THINK_BOXED

PLACE = "{question}"
EXTRACTORS = ("boxed-last", "answer-tag", "letter")


@dataclass(frozen=True)
class Prompt:
    """A question's frame.

    Args:
        name: by which it is chosen and named in a run.
        version: counts up whenever the words change.
        template: the text of the user's message; `{question}` stands for the question, once.
        extractor: how the answer is read off the response: from the last `\\boxed{}`, from
            between answer tags, or as the letter of a choice.
    """

    name: str
    version: int
    template: str
    extractor: str = "boxed-last"

    def __post_init__(self):
        if self.template.count(PLACE) != 1:
            raise ValueError(
                f"prompt {self.name!r}: the template must hold {PLACE} once, "
                f"got it {self.template.count(PLACE)} times"
            )
        if self.extractor not in EXTRACTORS:
            raise ValueError(f"extractor must be one of {EXTRACTORS}, got {self.extractor!r}")

    def text(self, question: str) -> str:
        """The question in its frame; blanks around it go where words are added."""
        before, _, after = self.template.partition(PLACE)
        return before + question.strip() + after if before or after else question

    def render(self, question: str) -> list[dict[str, Any]]:
        """The chat messages that put `question`; each `<image>` in it becomes an image part."""
        return [{"role": "user", "content": with_image_parts(self.text(question))}]

    def fingerprint(self) -> str:
        """A hash of what the model reads and of how it is read: not of name and version."""
        content = f"{self.template}\0{self.extractor}"
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def about(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {**asdict(self), "fingerprint": self.fingerprint()}


NONE = Prompt("none", 1, PLACE)
PROMPTS = {
    prompt.name: prompt
    for prompt in (
        NONE,
        # PGPO (arXiv:2604.01840), app. A
        Prompt("think-boxed", 1, f"{PLACE}\n\n{THINK_BOXED}"),
        # EasyR1's examples/format_prompt/math.jinja, which PAPO and VPPO use too
        Prompt(
            "easyr1-think-boxed",
            1,
            f"{PLACE} You FIRST think about the reasoning process as an internal monologue and "
            "then provide the final answer. The reasoning process MUST BE enclosed within "
            "<think> </think> tags. The final answer MUST BE put in \\boxed{}.",
        ),
        Prompt(
            "answer-tag",
            1,
            f"{PLACE}\n\nFirst think about the question inside <think> </think> tags. Then give "
            "the final answer alone inside <answer> </answer> tags.",
            "answer-tag",
        ),
        Prompt(
            "letter",
            1,
            f"{PLACE}\n\nEnd with the letter of the correct choice, alone on the last line.",
            "letter",
        ),
    )
}


def find_prompt(name: str, extractor: str = "boxed-last") -> Prompt:
    """The prompt of this name, or that of a text file with `{question}` in it.

    Args:
        name: one of `PROMPTS`, or the path of a file.
        extractor: for a file; a named prompt has its own.
    """
    if name in PROMPTS:
        return PROMPTS[name]
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(
            f"unknown prompt {name!r}; known: {', '.join(PROMPTS)}, or a text file with {PLACE}"
        )
    # an editor ends a file with a line break that nobody means the model to read
    template = path.read_text(encoding="utf-8").removesuffix("\n")
    return Prompt(path.stem, 1, template, extractor)


def with_image_parts(text: str) -> str | list[dict[str, str]]:
    """`text`, or where it holds `<image>` the parts it falls into, in their order."""
    first, *others = text.split("<image>")
    if not others:
        return text
    parts = [{"type": "text", "text": first}] if first else []
    for other in others:
        parts.append({"type": "image"})
        if other:
            parts.append({"type": "text", "text": other})
    return parts
