"""What `check` says of packages and GPU."""

from types import SimpleNamespace

import pytest

from sightline.check import environment
from sightline.check.findings import OK, PROBLEM, WARNING

REQUIREMENTS = [
    "numpy>=2",
    "torch>=999",
    "no-such-package; extra == 'rewards'",
    "pillow; extra == 'report'",
    "no-such-thing; python_version < '3'",
]


@pytest.fixture
def lacking(monkeypatch):
    monkeypatch.setattr(environment, "requires", lambda name: REQUIREMENTS)


def test_requirements_that_no_package_meets():
    (torch,) = environment.unmet(REQUIREMENTS, "")
    assert torch.startswith("torch>=999 (installed: ")
    assert list(environment.unmet(REQUIREMENTS, "rewards")) == ["no-such-package (not installed)"]
    assert list(environment.unmet(REQUIREMENTS, "report")) == []


def test_what_every_installation_needs_is_no_extra_of_any():
    always = ["no-such-base; python_version > '3'"]
    assert list(environment.unmet(always, "")) == ["no-such-base (not installed)"]
    assert list(environment.unmet(always, "rewards")) == []


def test_what_an_extra_of_a_requirement_lacks(monkeypatch):
    own = {"pillow": ["no-such-reader==1; extra == 'fast'", "no-such-writer; extra == 'slow'"]}
    monkeypatch.setattr(environment, "requires", own.get)
    assert list(environment.unmet(["pillow[fast]"], "")) == ["no-such-reader==1 (not installed)"]


def test_what_is_missing_is_a_problem_where_it_is_needed(lacking):
    base, rewards = environment.packages(["rewards"])
    assert (base.severity, base.do) == (PROBLEM, "pip install 'sightline'")
    assert (rewards.severity, rewards.do) == (PROBLEM, "pip install 'sightline[rewards]'")
    assert environment.packages(["trl"])[1].severity == WARNING


def test_all_is_here():
    (fine,) = environment.packages(["trl", "rewards"])
    assert fine.severity == OK
    assert all(f"{name} " in environment.versions().what for name in ("python", "torch", "trl"))


def test_vllm_is_looked_for_where_the_run_starts_it(monkeypatch):
    (missing,) = environment.vllm(True, "colocate")
    assert missing.severity == PROBLEM and missing.do.startswith("pip install 'trl[vllm]==1.")
    assert environment.vllm(True, "server") == environment.vllm(False, "colocate") == []
    monkeypatch.setattr(environment, "_version", lambda name: "1.0")
    assert environment.vllm(True, "colocate") == []


def test_the_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert environment.gpu("tiny").severity == OK
    assert environment.gpu("Qwen/Qwen2.5-VL-3B-Instruct").severity == WARNING
    card = SimpleNamespace(name="H200", total_memory=139 * 2**30)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: card)
    found = environment.gpu("any")
    assert found.what == "H200 with 139 GiB, H200 with 139 GiB" and found.numbers == {"gpus": 2}
