"""What README and docs show runs, and what they link to exists."""

import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from sightline import ViewScores
from sightline.algorithms.base import checked_weights

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_script_trains(tiny, tmp_path, monkeypatch):
    (script,) = code(ROOT / "README.md")
    assert len(script.splitlines()) <= 15
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.processor.save_pretrained(tmp_path / "model")
    # the only changes: a model that is at hand, and settings for two steps on a CPU
    small = "max_steps=2, use_cpu=True, bf16=False, report_to='none', max_completion_length=8, "
    for old, new in {
        "Qwen/Qwen2.5-VL-3B-Instruct": str(tmp_path / "model"),
        "n=2_000": "n=8",
        "GRPOConfig(": f"GRPOConfig({small}",
    }.items():
        assert old in script
        script = script.replace(old, new)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(script, "README.md", "exec"), names)
    assert names["trainer"].state.global_step == 2
    assert (tmp_path / "runs" / "pgpo" / "metrics.jsonl").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_resolve(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_benchmarks_that_are_named_exist(page):
    for name in re.findall(r"\bbenchmarks/[\w./-]+\.\w+", page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file() or "NAME" in name, name


def test_files_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:algorithms|core|engines|tasks|benchmarks)/[\w./]+)`", text):
        assert (ROOT / name).exists() or (ROOT / "src/sightline" / name).exists(), name


def test_the_loading_of_data_is_as_shown(capsys):
    (script,) = code(ROOT / "docs" / "data.md")
    exec(compile(script, "data.md", "exec"), {})
    assert "1 rows used" in capsys.readouterr().out


def test_the_method_of_your_own_keeps_the_contract():
    names = {}
    exec(compile(code(ROOT / "docs" / "add_a_method.md")[0], "add_a_method.md", "exec"), names)
    # k3 of log 2 is 0.3069 and of -log 2 it is 0.1931, of 0 it is 0: mean 1/6 over three tokens
    log_ratio = torch.tensor([[2.0, 0.5, 1.0, 9.0], [1, 1, 1, 1]]).log()
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    weights = checked_weights(names["PowerWeights"](), {"blind": ViewScores(log_ratio)}, mask)
    expected = torch.tensor([[0.306853, 0.193147, 0, 0], [0, 0, 0, 0]]) * 6
    expected[1, :2] = 1  # as without an image
    assert_close(weights, expected, atol=1e-4, rtol=0)
