"""Whether two cells were run by the same code, which a version number does not tell."""

import ast
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..records import environment

PACKAGE = Path(__file__).parent.parent
# what prepares, shows or asks, and decides no number of a cell
APART = (
    *("check", "data", "report", "score"),
    *("cli.py", "demo.py", "dry_run.py", "estimate.py", "eval_flags.py", "flags.py"),
)
# of this package, what a cell is made of
CELL = ("cell.py", "measure.py", "rules.py", "trainer.py", "update_norm.py")
# what the tasks take pictures from and draw them with
DRAWN = ("pillow", "scikit-learn", "scikit-image", "matplotlib")


def versions() -> dict[str, str]:
    """Of what the numbers of a cell depend on, Sightline's own code among it."""
    return environment() | _of_pictures() | {"code": LOADED}


def _of_pictures() -> dict[str, str]:
    found = {}
    for name in DRAWN:
        with suppress(PackageNotFoundError):  # of what a task does not need, none may be there
            found[name] = version(name)
    return found


def differing(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Which of the versions of two runs are not the same, to be read."""
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return ", ".join(f"{name} {there.get(name)} and not {here.get(name)}" for name in names)


def code_sha256() -> str:
    """Of all files that decide what a cell measures, 16 digits; comments and docstrings apart."""
    files = [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in (*APART, "compare")
    ]
    files += [PACKAGE / "compare" / name for name in CELL]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(PACKAGE)}\0{without_text(path.read_text())}\0".encode())
    return digest.hexdigest()[:16]


def without_text(source: str) -> str:
    """What is left of Python's `source` when comments, docstrings and layout are not looked at."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


LOADED = code_sha256()  # when this process began: what is edited later is not what it runs
