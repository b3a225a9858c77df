"""What `check` says of memory and time."""

import pytest

from sightline.check import cost as cost_module
from sightline.check.cost import capacity, cost
from sightline.check.findings import OK, PROBLEM, WARNING
from sightline.dry_run import job_of
from sightline.run_arguments import parse

# 8 responses in groups of 2 are the answers to 4 prompts
FLAGS = ["--per_device_train_batch_size", "8", "--num_generations", "2"]


@pytest.fixture(scope="module")
def request_():
    run, algorithm, args = parse(FLAGS)
    return run, algorithm, args, job_of(run, args, 40).prompt_tokens


def found(request_, questions=40, longer=0):
    run, algorithm, args, tokens = request_
    return cost(run, algorithm, args, questions, tokens + longer)


def test_as_many_rows_as_a_rollout_batch_takes_are_enough(request_):
    (few,) = found(request_, questions=3)
    assert (few.severity, few.kind) == (PROBLEM, "cost.rows")
    assert "takes 4 prompts, and there are 3 rows" in few.what
    assert [f.kind for f in found(request_, questions=4)] == ["cost.memory", "cost.time"]


def test_nine_tenths_of_the_memory_are_usable(request_, monkeypatch):
    need = found(request_)[0].numbers["bytes"]
    for there, severity in [(need / 0.9 * 1.001, OK), (need / 0.9 * 0.999, WARNING), (1, WARNING)]:
        monkeypatch.setattr(cost_module, "capacity", lambda there=there: there)
        memory, time = found(request_)
        assert (memory.severity, memory.numbers["available"]) == (severity, there)
        assert bool(memory.do) == (severity == WARNING) and time.severity == OK


def test_prompts_longer_than_was_assumed_are_a_warning(request_, monkeypatch):
    monkeypatch.setattr(cost_module, "capacity", lambda: 1e15)
    assert found(request_)[0].severity == OK
    assert found(request_, longer=1)[0].severity == WARNING


def test_the_memory_of_a_gpu_counts_where_there_is_one(monkeypatch):
    assert capacity() > 2**28  # of this machine
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    card = type("Card", (), {"total_memory": 2**35})
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: card)
    assert capacity() == 2**35
