"""What tells code apart: what it does, and not what is said about it."""

import PIL

from sightline.compare import code
from sightline.compare.code import code_sha256, differing, versions, without_text


def test_comments_and_docstrings_decide_nothing():
    one = 'def f(x):\n    """Twice."""\n    return 2 * x  # or so\n'
    other = "def f(x):\n\n    return (2 * x)\n"
    assert without_text(one) == without_text(other)
    assert without_text(other) != without_text(other.replace("2", "3"))
    assert without_text("x = 'text'") != without_text("x = 'other'")


def test_what_decides_a_cell_is_in_the_hash(tmp_path, monkeypatch):
    for name in ("compare/rules.py", "compare/page.py", "report/page.py", "core/losses.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1")
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    monkeypatch.setattr(code, "CELL", ("rules.py",))
    before = code_sha256()
    for name, counts in (
        ("report/page.py", False), ("compare/page.py", False),
        ("compare/rules.py", True), ("core/losses.py", True),
    ):  # fmt: skip
        (tmp_path / name).write_text("x = 2")
        assert (code_sha256() != before) == counts, name
        (tmp_path / name).write_text("x = 1")
    (tmp_path / "core" / "new.py").write_text("")
    assert code_sha256() != before


def test_what_differs_is_named():
    assert differing({"a": "1", "b": "2"}, {"a": "1", "b": "3"}) == "b 2 and not 3"
    assert differing({"a": "1"}, {"a": "1", "c": "3"}) == "c None and not 3"


def test_edited_code_is_not_what_a_process_runs(monkeypatch):
    at_first = versions()
    assert at_first["code"] == code_sha256() and "torch" in at_first
    assert at_first["pillow"] == PIL.__version__ and "scikit-learn" in at_first  # the pictures
    monkeypatch.setattr(code, "CELL", ())
    assert code_sha256() != at_first["code"] and versions() == at_first


def test_a_library_that_is_not_there_has_no_version(monkeypatch):
    monkeypatch.setattr(code, "DRAWN", ("pillow", "no-such-library"))
    assert "pillow" in versions() and "no-such-library" not in versions()
