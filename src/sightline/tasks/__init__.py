"""Seeded visual tasks with exact answers and oracle labels on every token.

A task is a module of functions:

* ``rows(n, seed, split, instruction)``: questions about fresh scenes, as dicts. For TRL: `prompt`,
  `images`, `answer`; and the truth: `id`, `question`, `reads` (the words to be read, in a fixed
  order), `difficulty` (a count, larger is harder), `sources` (the underlying images, dealt to the
  splits `warm`, `rl` and `heldout` before any row is drawn), `twin_id`, and the settings.
  Of `shapes` also `cells`, what stands in each cell of the picture.
* ``twin(row)``: the same text on another picture, in which every word to be read and the answer
  differ; ``twin(twin(row))`` is the row. Where the text decides the answer it stays (`irrelevant`),
  and where there is no picture there is none (`text-only`).
* ``demonstration(row, rng)`` and ``transcription(row, rng)``: a correct response, and the shortest.
* ``misread(row, rng, rate)``: the row as a careless annotator tells it.
* ``spans(response)``: the character ranges that are `visual` or `answer`, of any response in the
  grammar, sampled ones too; None outside it.
* ``readings(response)``, ``reading_accuracy(rows, responses)`` and ``solve(question, reads)``: what
  it says it reads, and what follows from that, so that reading and reasoning are told apart.
* ``in_view(row)``: the words for what the picture shows, in ``LINES`` lines (one unless it says
  otherwise) from left to right, where the picture alone decides it.
* ``guess_rate()``: the best accuracy without a look at the picture.
* ``WARM_START``, where the task has it: fields of `warm_start.WarmStart` that it needs otherwise.
* ``corpus()``: every word of its prompts and responses; ``fingerprint()``: a hash of its data.

`digits` is the task of the demo and older than the rest: its rows hold `digits` for `reads` and
have no twins.
"""

from functools import partial
from importlib import import_module
from types import ModuleType

NAMES = (
    *("digits", "digits-sum", "digits-prior", "shapes", "charts", "photos"),
    *("text-only", "irrelevant"),
)

# Every task but `digits` takes a length and a filler; these are the settings that are compared.
VARIANTS: dict[str, tuple[str, dict[str, int | str]]] = {
    f"digits-sum-{length}-{filler}": ("digits-sum", {"length": length, "filler": filler})
    for length in (12, 48, 96)
    for filler in ("free", "low")
}


def load(name: str) -> ModuleType:
    """The module of the task of this name; for a variant, with its settings filled in."""
    if name in VARIANTS:
        base, settings = VARIANTS[name]
        module = load(base)
        variant = ModuleType(module.__name__, module.__doc__)
        vars(variant).update(vars(module))
        variant.rows = partial(module.rows, **settings)  # pyright: ignore[reportAttributeAccessIssue]
        variant.fingerprint = partial(module.fingerprint, **settings)  # pyright: ignore[reportAttributeAccessIssue]
        return variant
    if name not in NAMES:
        raise ValueError(f"unknown task {name!r}; known: {', '.join((*NAMES, *VARIANTS))}")
    return import_module(f".{name.replace('-', '_')}", __name__)
