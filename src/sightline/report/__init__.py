"""Token records -> one self-contained HTML file.

``records`` reads a run folder, ``thumbnails`` its pictures, ``figures`` counts and draws, ``page``
puts the panels together and ``template.html`` with ``style.css`` is what they look like.
A report is made from files alone: nothing here imports an engine or a model.
"""

from importlib import import_module
from pathlib import Path

__all__ = ["write_report"]


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    The page opens offline and needs no script. The same files give the same bytes.

    Args:
        run_dir: holds ``run.json`` and, where there are any, ``result.json``, ``metrics.jsonl``,
            ``tokens.jsonl`` and the images that the token records name.
    """
    for library in ("jinja2", "matplotlib"):
        try:
            import_module(library)
        except ImportError as error:
            raise ImportError(
                f"sightline report needs {library}: pip install 'sightline[report]'"
            ) from error
    from .page import render

    path = run_dir / "report.html"
    path.write_bytes(render(run_dir).encode())
    return path
