"""Token records -> one self-contained HTML file, with its figures and tables as files.

``runs`` reads run folders by way of ``records``; each file of ``panels`` counts and draws one
panel, and the template of the same name is what it looks like; ``page`` puts them together.
A report is made from files alone: nothing here imports an engine or a model.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

__all__ = ["require_libraries", "write_report"]


def require_libraries() -> None:
    """Raise where a library is missing that pages and figures are made with."""
    for library in ("jinja2", "matplotlib"):
        try:
            import_module(library)
        except ImportError as error:
            raise ImportError(
                f"a report needs {library}: pip install 'sightline[report]'"
            ) from error


def write_report(
    run_dir: Path,
    *others: Path,
    max_responses: int | None = None,
    token_classes: Path | None = None,
    exports: bool = False,
    warn: Callable[[str], object] = lambda warning: None,
) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    The page opens offline and can be read without scripts. The same files give the same bytes.

    Args:
        run_dir: holds ``run.json`` and, where there are any, ``result.json``, ``metrics.jsonl``,
            ``tokens.jsonl``, ``attribution.jsonl`` and the images that the token records name.
        others: run folders to compare it with.
        max_responses: shown in the page; 1,000 unless told.
        token_classes: rules in TOML; those of ``token_classes.toml`` in this package unless told.
        exports: also write each figure as SVG, PDF and PNG to ``report/figures`` and each table as
            CSV to ``report/tables``.
        warn: is told each warning that stands at the top of the page, such as of a run that is not
            finished or a line that could not be read.
    """
    require_libraries()
    from . import formats
    from .drawing import save_drawings
    from .page import DEFAULT, SHOWN, render
    from .tables import write_tables

    page = render([run_dir, *others], max_responses or SHOWN, token_classes or DEFAULT)
    for warning in page.warnings:
        warn(formats.clean(warning))
    path = run_dir / "report.html"
    path.write_bytes(page.html.encode())
    if exports:
        save_drawings(page.drawings, run_dir / "report" / "figures")
        write_tables(page.tables, run_dir / "report" / "tables")
    return path
