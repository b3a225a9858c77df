"""Whether two cells were run by the same code, which a version number does not tell."""

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
# what prepares, shows or asks, and decides no number of a cell
APART = ("check", "data", "report", "score")
# of this package, what a cell is made of
CELL = ("cell.py", "measure.py", "rules.py", "trainer.py", "update_norm.py")


def code_sha256() -> str:
    """Of all files of the package that decide what a cell measures; the first 16 digits."""
    files = [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in (*APART, "compare")
    ]
    files += [PACKAGE / "compare" / name for name in CELL]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(PACKAGE)}\0{path.read_text(encoding='utf-8')}\0".encode())
    return digest.hexdigest()[:16]
