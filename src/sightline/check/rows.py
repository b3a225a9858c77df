"""The data: rows that cannot be used, rows that are there twice, rows of the evaluation's."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from PIL import Image

from ..data import Limits, Rows, decode
from ..data.images import cells_of, name_of
from ..records import question
from .findings import OK, PROBLEM, WARNING, Finding, with_summary


class Facts(NamedTuple):
    """What is kept of a row once its pictures have gone.

    Args:
        question: the text of its prompt.
        pictures: a hash of the size and the decoded pixels of each.
    """

    id: str
    question: str
    gold: str
    pictures: tuple[str, ...]


def facts(row: Mapping[str, Any]) -> Facts:
    """The facts of a row whose pictures are decoded."""
    pictures = tuple(map(picture_hash, row["images"]))
    return Facts(str(row["id"]), question(row["prompt"]), str(row["answer"]), pictures)


def picture_hash(picture: Image.Image) -> str:
    """A hash of what is seen: the same for a file that was stored otherwise without a loss."""
    digest = hashlib.blake2b(repr(picture.size).encode(), digest_size=16)
    digest.update(picture.convert("RGB").tobytes())
    return digest.hexdigest()


class Readable:
    """The rows of a data set whose pictures can be decoded, up to `most` of them, decoded.

    Args:
        severity, do: of a row that cannot be used.
        bad: a finding for each of those, filled as the rows are gone through.
    """

    def __init__(self, rows: Rows, most: int, severity: str, do: str):
        self.rows, self.most, self.severity, self.do = rows, most, severity, do
        self.bad = [
            Finding(severity, "rows.unreadable", f"{row.reason} ({row.place})", do, row.id, image)
            for row in rows.bad
            for image in [repr(row.image) if row.image else ""]
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        used = 0
        for row in self.rows.undecoded():
            if used == self.most:
                return
            pictures = self._pictures(row, self.rows.limits)
            if pictures is not None:
                used += 1
                yield {**row, "images": pictures}

    def _pictures(self, row: Mapping[str, Any], limits: Limits) -> list[Image.Image] | None:
        pictures = []
        for cell in cells_of(row["images"]):
            try:
                pictures.append(decode(cell, limits))
            except ValueError as error:
                name = repr(name_of(cell))
                self.bad.append(
                    Finding(
                        self.severity, "rows.unreadable", str(error), self.do, str(row["id"]), name
                    )
                )
                return None
        return pictures


class Account(NamedTuple):
    """Where the rows of some data have gone: as many are used, listed and left over as there are.

    Args:
        name: of the data.
        rows_in: rows that there are.
        used: those that can be used, up to as many as the run takes.
        bad: a finding for each row that cannot.
        taken: a line on what was taken for what, or "".
    """

    name: str
    rows_in: int
    used: list[Facts]
    bad: list[Finding]
    taken: str

    @property
    def left_over(self) -> int:
        """Rows beyond those that the run takes."""
        return self.rows_in - len(self.used) - len(self.bad)

    def title(self) -> str:
        """How many rows are checked, in words."""
        of = f" of {self.rows_in:,}" if self.rows_in > len(self.used) else ""
        return f"{len(self.used):,}{of} rows of {self.name}"

    def findings(self) -> list[Finding]:
        """How many rows there are, and those that cannot be used."""
        used, bad = len(self.used), len(self.bad)
        pictures = [len(row.pictures) for row in self.used]
        without, several = pictures.count(0), sum(count > 1 for count in pictures)
        numbers = {"rows": used, "bad": bad, "without_image": without, "several_images": several}
        numbers |= {"rows_in": self.rows_in, "left_over": self.left_over}
        beyond = f" + {self.left_over:,} beyond --rows" if self.left_over else ""
        what = f"{self.rows_in:,} rows in {self.name} = {used:,} used + {bad:,} listed{beyond}; "
        what += f"of those used, {without:,} without an image, {several:,} with several"
        what += f"; {self.taken}" if self.taken else ""
        found = [Finding(OK, "rows.source", what, numbers=numbers)]
        if not used:
            what = f"{self.name} holds no row that can be used"
            found.append(Finding(PROBLEM, "rows.none", what, "mend the data"))
        return found + with_summary(
            "rows.unreadable",
            self.bad,
            f"all {used:,} rows can be used, every image decoded",
            f"{bad:,} of {self.rows_in:,} rows cannot be used, and are listed",
            numbers,
        )


def duplicates(rows: list[Facts]) -> list[Finding]:
    """Rows that ask what another one asks, of the same pictures."""
    first: dict[tuple, Facts] = {}
    same, other = [], []
    for row in rows:
        before = first.setdefault((row.question, row.pictures), row)
        if before is row:
            continue
        if before.gold.strip() == row.gold.strip():
            what = f"the same question, images and gold as row {before.id!r}"
            same.append(Finding(WARNING, "rows.duplicate", what, "keep one of the two", row.id))
        else:
            what = (
                f"the same question and images as row {before.id!r}, whose gold is "
                f"{before.gold!r}, and the gold {row.gold!r}"
            )
            do = "remove the one whose gold is wrong"
            other.append(Finding(PROBLEM, "rows.contradiction", what, do, row.id))
    return [
        *with_summary(
            "rows.duplicate",
            same,
            "no row is there twice",
            f"rows that are there twice: {len(same):,}",
            {"duplicates": len(same)},
        ),
        *with_summary(
            "rows.contradiction",
            other,
            "no question is asked of the same images with two golds",
            f"rows that contradict the gold of another: {len(other):,}",
            {"contradictions": len(other)},
        ),
    ]


def overlap(training: Iterable[Facts], evaluation: Iterable[Facts]) -> list[Finding]:
    """Rows of the evaluation with a picture that is trained on, by the hash of its pixels."""
    trained = {picture: row.id for row in training for picture in row.pictures}
    found = []
    for row in evaluation:
        for number, picture in enumerate(row.pictures, 1):
            if picture in trained:
                found.append(
                    Finding(
                        PROBLEM,
                        "rows.overlap",
                        f"this image of the evaluation is trained on in row {trained[picture]!r}",
                        "remove one of the two rows",
                        row.id,
                        str(number),
                    )
                )
    return with_summary(
        "rows.overlap",
        found,
        "no image of the evaluation is trained on",
        f"images of the evaluation that are trained on: {len(found):,}",
        {"overlap": len(found)},
    )
