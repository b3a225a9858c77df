"""The credit rules that are compared: the papers' methods, their parts, and the references.

References know what a method cannot: which words had to be read, or nothing at all. What they know
is handed to them as further scores (`TOLD`), so that each is an `Algorithm` like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..algorithms import (
    ALGORITHMS,
    PGPO,
    PRPO,
    VPPO,
    Algorithm,
    Sightline,
    ViewScores,
    algorithm_class,
)
from ..algorithms.base import check_views
from ..algorithms.sightline import VIEWS
from ..core import keep_real, response_mean, response_top
from ..views import Blind, Gray, OtherImage, View

# Tables that are no view's, each in the `log_ratio` of a `ViewScores`: the oracle label of a token
# as a number, a number drawn for it between 0 and 1, the entropy of the policy there in nats.
TOLD = ("label", "draw", "entropy")
LABELS = {"other": 0.0, "visual": 1.0, "answer": 2.0}
UNKNOWN = -1.0  # the label of every token of a response that leaves the task's grammar
# What a suite's own rule may put in the image's place: `seen`.
PICTURES: dict[str, View] = {
    **{name: view for name, view in VIEWS.items() if name != "blind"},
    "other": OtherImage(),
}


@dataclass(frozen=True)
class Told(Algorithm):
    """A rule that reads some of `TOLD`, as references do.

    It scores the blind view unless it says otherwise, so that what it looked at can be measured.
    """

    def views(self) -> Mapping[str, View]:
        return {"blind": Blind()}

    @property
    def told(self) -> tuple[str, ...]:
        """Which of `TOLD` it reads."""
        raise NotImplementedError


def told_to(rule: Algorithm) -> tuple[str, ...]:
    """Which of `TOLD` a rule reads."""
    return rule.told if isinstance(rule, Told) else ()


@dataclass(frozen=True)
class Oracle(Told):
    """Weigh the tokens that must be read, and those of the answer, over the others.

    A response without a token that must be read, or outside the task's grammar, is plain GRPO.

    Args:
        floor: what the other tokens weigh; 0 is the mask.
        answer: whether tokens of the answer count as well as those that are read.
        conserve_mass: rescale each response to mean 1, as PGPO does.
    """

    floor: float = 0.0
    answer: bool = True
    conserve_mass: bool = False

    def __post_init__(self):
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must be in [0, 1], got {self.floor}")

    @property
    def told(self) -> tuple[str, ...]:
        return ("label",)

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        check_views(scores, self.told)
        labels = keep_real(scores["label"].log_ratio, mask)
        wanted = labels == LABELS["visual"]
        neutral = ~wanted.any(1, keepdim=True)
        if self.answer:
            wanted = wanted | (labels == LABELS["answer"])
        weights = torch.where(wanted, 1.0, self.floor)
        if self.conserve_mass:
            weights = weights / response_mean(weights, mask)[:, None]
        return keep_real(torch.where(neutral, 1.0, weights), mask)


@dataclass(frozen=True)
class Shuffled(Told):
    """The weights of another rule, dealt anew among the tokens of each response.

    As many tokens weigh as much as under that rule, but not those that it chose: what is gained
    all the same is not perception.
    """

    rule: Algorithm = field(default_factory=Algorithm)

    def views(self) -> Mapping[str, View]:
        return self.rule.views()

    @property
    def needs_exact_kl(self) -> bool:
        return self.rule.needs_exact_kl

    @property
    def told(self) -> tuple[str, ...]:
        return ("draw", *told_to(self.rule))

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        check_views(scores, self.told)
        weights = self.rule.token_weights(scores, mask)
        # padding drawn last, so that real tokens fill the first places in the order of their draws
        order = keep_real(scores["draw"].log_ratio, mask, torch.inf).argsort(dim=1, stable=True)
        places = mask.float().argsort(dim=1, descending=True, stable=True)
        dealt = torch.zeros_like(weights).scatter(1, places, weights.gather(1, order))
        return keep_real(dealt, mask)


@dataclass(frozen=True)
class Seen(Told):
    """The weights of another rule, from another view than the one that hides the image.

    What hides the image altogether also shows that there is none, which can move words that do
    not depend on what it shows; another picture in its place cannot.

    Args:
        rule: one that reads the view `blind`.
        view: what it reads instead.
    """

    rule: Algorithm = field(default_factory=Algorithm)
    view: View = field(default_factory=Gray)

    def views(self) -> Mapping[str, View]:
        return {**self.rule.views(), "blind": self.view}

    @property
    def needs_exact_kl(self) -> bool:
        return self.rule.needs_exact_kl

    @property
    def row_local(self) -> bool:
        return self.rule.row_local

    @property
    def told(self) -> tuple[str, ...]:
        return told_to(self.rule)

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        return self.rule.token_weights(scores, mask)


@dataclass(frozen=True)
class Top(Told):
    """Keep the tokens of each response that have its greatest exact dependency, or entropy.

    Args:
        fraction: of the tokens to keep, rounded up.
        by: `kl` for the exact KL under the blind view, `entropy` for that of the policy.
        keep_answer: also keep every token of the answer, which the oracle names.
    """

    fraction: float = 0.4
    by: str = "kl"
    keep_answer: bool = False

    def __post_init__(self):
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], got {self.fraction}")
        if self.by not in ("kl", "entropy"):
            raise ValueError(f"by must be kl or entropy, got {self.by!r}")

    @property
    def needs_exact_kl(self) -> bool:
        return self.by == "kl"

    @property
    def told(self) -> tuple[str, ...]:
        entropy = ("entropy",) if self.by == "entropy" else ()
        return entropy + (("label",) if self.keep_answer else ())

    def token_weights(
        self, scores: Mapping[str, ViewScores], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        check_views(scores, (*self.views(), *self.told))
        blind = scores["blind"]
        values = blind.dependency(mask, "kl") if self.by == "kl" else scores["entropy"].log_ratio
        kept = response_top(values, mask, self.fraction)
        if self.keep_answer:
            kept = kept | (scores["label"].log_ratio == LABELS["answer"])
        seen = blind.scored_rows(mask, self.needs_exact_kl)[:, None]
        return keep_real(torch.where(seen, kept.float(), 1.0), mask)


RULES: dict[str, Algorithm] = {
    "uniform": Algorithm(),
    "oracle": Oracle(),
    "oracle-floor": Oracle(floor=0.5),
    "oracle-read": Oracle(answer=False, conserve_mass=True),
    "pgpo": PGPO(),
    "pgpo-kl": PGPO(estimator="kl"),
    "pgpo-shuffled": Shuffled(PGPO()),
    "vppo": VPPO(),
    "vppo-kl": VPPO(estimator="kl"),
    "vppo-filter": VPPO(scale_min=1.0),
    "vppo-scale": VPPO(top_fraction=1.0),
    "vppo-soft": VPPO(soft_mask=True),
    "vppo-shuffled": Shuffled(VPPO()),
    "prpo": PRPO(),
    "prpo-conserve": PRPO(par_mode="conserve"),
    "prpo-contrast": PRPO(rvd_mode="contrast"),
    "prpo-kl": PRPO(estimator="kl"),
    "prpo-shuffled": Shuffled(PRPO()),
    **{f"top-{percent}": Top(percent / 100) for percent in (3, 6, 10, 20, 40, 80)},
    "top-10-answer": Top(0.10, keep_answer=True),
    "top-10-shuffled": Shuffled(Top(0.10)),
    "entropy-40": Top(0.40, by="entropy"),
    "sightline": Sightline(),
    **{f"sightline-{percent}": Sightline(percent / 100) for percent in (5, 10, 25, 50)},
    "sightline-blind": Sightline(hide="blind"),
    "sightline-shuffled": Shuffled(Sightline()),
}


def find_rule(name: str, settings: Any = None) -> Algorithm:
    """A rule by its name, or of a suite's own: a rule or algorithm with other settings.

    Args:
        settings: `of`, the name of a rule in `RULES` or of an algorithm, and fields to replace;
            `seen`, one of `PICTURES`, for a rule that hides the image (`Seen`); `shuffled: true`
            for its control (`Shuffled`).
    """
    if settings is None:
        if name not in RULES:
            raise ValueError(
                f"unknown rule {name!r}; known: {', '.join(RULES)}; or say what it is made of: "
                f"{name}: {{of: pgpo, boost: 1.0}}"
            )
        return RULES[name]
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"rule {name!r} must be made of another, {name}: {{of: pgpo, boost: 1.0}}, got "
            f"{settings!r}"
        )
    changed = dict(settings)
    base, seen, shuffled = (changed.pop(key, None) for key in ("of", "seen", "shuffled"))
    if not isinstance(base, str) or base not in {*RULES, *ALGORITHMS}:
        raise ValueError(
            f"rule {name!r} must say what it is made `of`, one of {', '.join(RULES)}, got {base!r}"
        )
    rule = RULES[base] if base in RULES else algorithm_class(base)()
    simple = {item.name: getattr(rule, item.name) for item in fields(rule)}
    simple = {n: v for n, v in simple.items() if not isinstance(v, Algorithm | View)}
    for field_name, value in changed.items():
        if field_name not in simple:
            raise ValueError(
                f"rule {name!r}: {base} has no setting {field_name!r}; it has "
                f"{', '.join(simple) or 'none'}"
            )
        changed[field_name] = _like(f"rule {name!r}: {field_name}", simple[field_name], value)
    try:
        rule = replace(rule, **changed)
    except TypeError as error:  # None where a number is compared
        raise ValueError(f"rule {name!r}: {error}") from error
    if seen is not None:
        if seen not in list(PICTURES) or not _weighs_by_blind(rule):
            raise ValueError(
                f"rule {name!r}: seen must be one of {', '.join(PICTURES)}, of a rule that weighs "
                f"by the view blind, got {seen!r} of {base}"
            )
        rule = Seen(rule, PICTURES[seen])
    if shuffled is not None:
        if shuffled is not True or isinstance(rule, Shuffled):
            raise ValueError(
                f"rule {name!r}: shuffled must be true, of a rule that is not, or left out, got "
                f"{shuffled!r} of {base}"
            )
        rule = Shuffled(rule)
    if rule != RULES.get(name, rule):
        raise ValueError(
            f"rule {name!r} is one of Sightline's own, and not that: give yours another name"
        )
    return rule


def _weighs_by_blind(rule: Algorithm) -> bool:
    """Whether the weights hang on the blind view; a reference may score it for measurement only."""
    if isinstance(rule, Oracle) or (isinstance(rule, Top) and rule.by != "kl"):
        return False
    return "blind" in rule.views()


def _like(what: str, default: Any, value: Any) -> Any:
    """`value`, if it is of the kind of `default`; 1e-3 too, which YAML takes for text."""
    if type(default) is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if value is not None and default is not None and type(value) is not type(default):
        raise ValueError(f"{what} must be a {type(default).__name__}, got {value!r}")
    return value
