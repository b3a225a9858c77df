"""Was it written down before it was run? Hypotheses, thresholds and their file's history."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..records import write_json
from .suite import Suite
from .yaml_text import text_of

FILE = "registration.json"


def register(
    suite: Suite, folder: Path, document: Path | None, earlier: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What is known of pre-registration, written into `folder` before its first cell is run.

    Args:
        document: the hypotheses (`hypotheses.parse_hypotheses`); None for none.
        earlier: what was registered when cells that this suite goes on from were begun.

    Raises:
        ValueError: `document` is not the one that was there when the first cell was run, or cells
            in `folder` were begun with another one, or none, than those of `earlier`.
    """
    path = folder / FILE
    begun = dict(earlier) if earlier else None
    if path.exists():
        here = json.loads(path.read_text(encoding="utf-8"))
        if begun and begun["document_sha256"] != here["document_sha256"]:
            raise ValueError(
                f"cells in {folder} were begun with {here['document'] or 'no hypotheses'}, those "
                f"of the result set with {begun['document'] or 'none'}: choose another --output-dir"
            )
        begun = here
    elif any(folder.rglob("result.json")):
        if begun and begun["document"]:
            raise ValueError(
                f"cells in {folder} were begun without a registration, those of the result set "
                f"with {begun['document']}: choose another --output-dir"
            )
        begun = _registration(suite, None)  # whatever it was, it was not before them
    if begun is None:
        begun = _registration(suite, document)
    found = document and _sha256(document)
    if found and found != begun["document_sha256"]:
        raise ValueError(
            f"{document} is not what was registered before the first cell was run, which was "
            f"{begun['document'] or 'nothing'}: put the old text back, or choose another "
            "--output-dir and begin anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, begun)
    return begun


def _registration(suite: Suite, document: Path | None) -> dict[str, Any]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "suite_sha256": suite.sha256,
        "document": document and document.name,
        "document_sha256": document and _sha256(document),
        "text": document and text_of(document),
    }


def status(begun: Mapping[str, Any], suite: Suite) -> dict[str, str]:
    """`Pre-registered` or `Exploratory`, and why, as reports print it."""
    if not begun["document"]:
        return {"status": "Exploratory", "said": "No hypotheses were written down beforehand."}
    if begun["suite_sha256"] != suite.sha256:
        return {
            "status": "Exploratory",
            "said": f"The suite was changed after its first cell had been run on {begun['time']}.",
        }
    return {
        "status": "Pre-registered",
        "said": f"{begun['document']} (SHA-256 {begun['document_sha256'][:12]}…) and the suite "
        f"({suite.sha256[:12]}…) were fixed on {begun['time']}, before the first cell was run.",
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
