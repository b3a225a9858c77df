"""Two processes whose optimizer and gradients DeepSpeed shards (ZeRO-2): `make test-deepspeed`."""

import os
from types import SimpleNamespace

import pytest
import torch
from test_trl import distance, same
from torch.testing import assert_close
from two_processes import run, skip_with_deepspeed, train_all, train_with_deepspeed

from sightline.engines.trl import DynamicSampling, deepspeed

# its own, and those of what it imports
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]
os.environ.setdefault("DS_ACCELERATOR", "cpu")


def test_two_processes_train_like_one_skip_and_resume(tiny, tmp_path):  # P2, P6
    pytest.importorskip("deepspeed")
    end, curve, metrics = train_all(tiny, tmp_path, 1, names=("pgpo",))["pgpo"]
    start = {name: p.detach() for name, p in tiny.model.named_parameters()}

    run(train_with_deepspeed, tiny, tmp_path)

    other_end, other_curve, other_metrics = torch.load(tmp_path / "whole.pt")
    assert_close(other_curve, curve, atol=1e-5, rtol=1e-5)
    assert distance(end, other_end) < 1e-5 * distance(start, end)
    for line, other in zip(metrics, other_metrics, strict=True):
        assert other["dependency/mean"] == pytest.approx(line["dependency/mean"], rel=1e-3)
    assert same(other_end, torch.load(tmp_path / "resumed.pt")[0])
    saved = type(tiny.model).from_pretrained(tmp_path / "saved")
    assert same(dict(saved.named_parameters()), other_end)
    for rank in (0, 1):
        assert "is not the data it should be" in (tmp_path / f"refused-{rank}").read_text()
    assert not (tmp_path / "was run").exists()


def test_a_step_that_is_not_finite_is_skipped(tiny, tmp_path):
    pytest.importorskip("deepspeed")
    run(skip_with_deepspeed, tiny, tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"skipped-{rank}.pt")
        first, second, third, fourth, *_ = found["weights"]
        assert not same(first, second) and same(second, third) and not same(third, fourth)
        assert "step 2: the gradient is not finite" in found["said"]
        assert "Stopped after 3 such steps in a row" in found["stopped"]
    said = [torch.load(tmp_path / f"skipped-{rank}.pt")["said"] for rank in (0, 1)]
    assert "none found" not in said[0] and "none found on this process" in said[1]


def sharded_by_deepspeed(config, when_short="keep"):
    """As much of a trainer as is looked at."""
    plugin = SimpleNamespace(deepspeed_config=config)
    return SimpleNamespace(
        accelerator=SimpleNamespace(
            distributed_type=SimpleNamespace(value="DEEPSPEED"),
            state=SimpleNamespace(deepspeed_plugin=plugin),
        ),
        dynamic_sampling=DynamicSampling(when_short=when_short),
    )


@pytest.mark.parametrize(
    ("config", "when_short", "named"),
    [
        ({"stage": 2}, "keep", []),
        ({"stage": 3}, "keep", ["DeepSpeed with ZeRO stage 3"]),
        ({"stage": 1}, "keep", ["DeepSpeed with ZeRO stage 1"]),
        ({}, "error", ["DeepSpeed with ZeRO stage 0"]),
        (
            {"stage": 2, "compute_grad_norm": False},
            "keep",
            ["DeepSpeed's compute_grad_norm=false"],
        ),
        (
            {"stage": 2, "offload_optimizer": {"device": "cpu"}},
            "keep",
            ["DeepSpeed's offload_optimizer to 'cpu'"],
        ),
        ({"stage": 2}, "skip", ["dynamic sampling with when_short='skip' and DeepSpeed"]),
    ],
)
def test_what_is_not_tested_of_deepspeed_is_refused(config, when_short, named):
    trainer = sharded_by_deepspeed({"zero_optimization": config}, when_short)
    found = deepspeed.refusals(trainer)
    assert [name for name, (refused, _) in found.items() if refused] == named


def test_deepspeed_s_own_optimizer_and_unchecked_gradients_are_refused():
    trainer = sharded_by_deepspeed(
        {"zero_optimization": {"stage": 2}, "optimizer": {}, "bf16": {"check_grad_overflow": False}}
    )
    refused = [name for name, (no, _) in deepspeed.refusals(trainer).items() if no]
    assert refused == ["DeepSpeed's own optimizer", "DeepSpeed's bf16.check_grad_overflow=false"]
