"""Cells are run once each, whatever is killed; failures are recorded and tried again."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from sightline.compare import runner
from sightline.compare.suite import parse_suite
from sightline.records import read_lines, write_json

SUITE = parse_suite(
    "small",
    """
tasks: [digits-sum-12-free]
rules: [uniform, pgpo]
learning_rates: [1e-4]
seeds: [0, 1, 2]
protocol: {steps: 2, measure_every: 1}
""",
)


VERSIONS = {"sightline": "0", "code": "c0de"}


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Cells that do nothing but leave their files; forked workers, which need no imports."""
    warm = tmp_path / "warm.safetensors"
    warm.touch()
    monkeypatch.setattr(runner, "warm_start_path", lambda task, seed: warm)
    monkeypatch.setattr(runner, "get_context", lambda kind: multiprocessing.get_context("fork"))
    monkeypatch.setattr(runner, "POLL", 0.01)
    monkeypatch.setattr(runner, "run_cell", finish)
    monkeypatch.setattr(runner, "versions", lambda: VERSIONS)
    return tmp_path / "suite"


def finish(cell, rule, protocol, folder):
    with (folder.parent / f"ran-{folder.name}").open("a") as file:
        file.write("once\n")
    about = {"protocol": asdict(protocol), "rule": repr(rule), "versions": VERSIONS}
    write_json(folder / "run.json", about)
    write_json(folder / "result.json", {"points": [{"accuracy": 0.25}, {"accuracy": 0.5}]})


def run(folder, suite=SUITE):
    lines = []
    failed = runner.run_suite(suite, folder, 2, lines.append)
    return failed, lines


def runs(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("ran-*")}


def test_every_cell_is_run_once(cells):
    failed, lines = run(cells)
    assert failed == [] and lines[0].startswith("6 cells, 6 to run, 2 at a time")
    assert len(lines) == 7 and "25.0% -> 50.0%" in lines[1] and lines[-1].startswith("6/6")
    assert len(runs(cells)) == 6 and set(runs(cells).values()) == {"once\n"}
    _, again = run(cells)
    assert again == [f"6 cells, 0 to run, 2 at a time, into {cells}"]
    assert set(runs(cells).values()) == {"once\n"}


def test_workers_compute_on_one_thread_from_the_start(cells, monkeypatch, tmp_path):
    (tmp_path / "warm.safetensors").unlink()

    def load_warm_model(task, seed, from_scratch):
        (tmp_path / "warm.safetensors").write_text(str(torch.get_num_threads()))

    monkeypatch.setattr(runner, "load_warm_model", load_warm_model)
    torch.set_num_threads(2)
    run(cells)
    torch.set_num_threads(1)
    assert (tmp_path / "warm.safetensors").read_text() == "1"


def test_a_longer_suite_runs_what_is_new(cells):
    run(cells)
    longer = parse_suite("small", SUITE.text.replace("[0, 1, 2]", "[0, 1, 2, 3]"))
    _, lines = run(cells, longer)
    assert lines[0].startswith("8 cells, 2 to run")


@pytest.mark.parametrize(
    ("old", "new"), [("measure_every: 1", "measure_every: 2"), ("boost: 0.5", "boost: 1.0")]
)
def test_another_protocol_in_the_same_folder_is_refused(cells, old, new):
    text = SUITE.text.replace("pgpo]", "mine: {of: pgpo, boost: 0.5}]")
    run(cells, parse_suite("small", text))
    other = parse_suite("small", text.replace(old, new))
    with pytest.raises(ValueError, match="was run with another protocol or rule"):
        run(cells, other)


def test_cells_of_other_code_are_refused_before_the_first_is_run(cells, monkeypatch):
    run(cells)
    monkeypatch.setattr(runner, "versions", lambda: VERSIONS | {"code": "d0de"})
    with pytest.raises(ValueError, match="was run by other versions, code c0de and not d0de"):
        run(cells)


def test_a_warm_start_that_cannot_be_made_fails_its_cells(cells, monkeypatch, tmp_path):
    (tmp_path / "warm.safetensors").unlink()

    def load_warm_model(task, seed, from_scratch):
        raise MemoryError("no room")

    monkeypatch.setattr(runner, "load_warm_model", load_warm_model)
    failed, lines = run(cells)
    assert len(failed) == 6 and "FAILED: MemoryError: no room" in lines[-1]


def test_workers_that_never_reach_a_cell_are_given_up(cells, monkeypatch):
    monkeypatch.setattr(runner, "_write_to", lambda log: os._exit(3))
    with pytest.raises(RuntimeError, match=r"4 workers ended before .* exit code 3: .*logs says"):
        run(cells)


def test_a_failure_is_recorded_and_the_next_call_tries_again(cells, monkeypatch):
    def fail(cell, rule, protocol, folder):
        if cell.rule == "pgpo" and cell.seed == 1:
            raise RuntimeError("no such luck")
        finish(cell, rule, protocol, folder)

    monkeypatch.setattr(runner, "run_cell", fail)
    failed, lines = run(cells)
    assert failed == ["digits-sum-12-free/pgpo/lr0.0001/seed1"]
    assert any("FAILED: RuntimeError: no such luck" in line for line in lines)
    record = read_lines(cells / "failures.jsonl")
    assert [line["cell"] for line in record] == failed and "Traceback" in record[0]["reason"]
    monkeypatch.setattr(runner, "run_cell", finish)
    failed, lines = run(cells)
    assert failed == [] and lines[0].startswith("6 cells, 1 to run")
    assert read_lines(cells / "failures.jsonl") == record  # what happened stays told


def test_a_killed_process_costs_its_cell_and_no_other(cells, monkeypatch):
    def die(cell, rule, protocol, folder):
        if cell.rule == "uniform" and cell.seed == 0:
            (folder / "run.json").write_text("half")
            with (cells / "died").open("a") as file:
                file.write("once\n")
            os.kill(os.getpid(), signal.SIGKILL)
        finish(cell, rule, protocol, folder)

    monkeypatch.setattr(runner, "run_cell", die)
    failed, _ = run(cells)
    assert failed == ["digits-sum-12-free/uniform/lr0.0001/seed0"]
    reason = json.loads((cells / failed[0] / "failure.json").read_text())["reason"]
    assert "its process ended" in reason
    assert (cells / "died").read_text() == "once\n"  # nor does the other process die at it
    assert len(runs(cells)) == 5
    monkeypatch.setattr(runner, "run_cell", finish)
    assert run(cells)[0] == []
    assert not (cells / failed[0] / "failure.json").exists()


def test_what_a_process_died_at_is_told_by_whoever_comes_first(cells):
    cell = next(SUITE.cells())
    lock, folder = runner._lock_of(cell, cells), cells / cell.name
    folder.mkdir(parents=True)
    lock.parent.mkdir(parents=True)
    # the parent, by the process that was at it and no other
    worker = multiprocessing.get_context("fork").Process(target=os._exit, args=(9,))
    worker.start()
    worker.join()
    lock.write_text(f"{os.getpid()} {worker.pid + 1}")
    assert not runner._record_death([cell], cells, worker)
    lock.write_text(f"{os.getpid()} {worker.pid}")
    assert runner._record_death([cell], cells, worker)
    assert "exit code 9" in json.loads((folder / "failure.json").read_text())["reason"]
    # another process of the same command
    (folder / "failure.json").unlink()
    lock.write_text(f"{os.getppid()} 77")
    assert runner._run(cell, SUITE, cells) is True and not runs(cells)
    assert (folder / "failure.json").exists()
    # one of a later command runs it again
    (folder / "failure.json").unlink()
    lock.write_text("1 77")
    assert runner._run(cell, SUITE, cells) is True and len(runs(cells)) == 1


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGTERM])
def test_cells_end_with_the_command(cells, monkeypatch, harm):
    def sleep(cell, rule, protocol, folder):
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    monkeypatch.setattr(runner, "run_cell", sleep)
    command = multiprocessing.get_context("fork").Process(
        target=runner.run_suite, args=(SUITE, cells, 2)
    )
    command.start()
    wait_for(lambda: len([p for p in cells.rglob("pid") if p.read_text()]) == 2)
    workers = [int(path.read_text()) for path in cells.rglob("pid")]
    os.kill(command.pid, harm)
    command.join()
    wait_for(lambda: not any(is_running(pid) for pid in workers))


def is_running(pid):
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may have asked after one that has ended


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_somebody_else_runs_is_left_to_him(cells):
    cell = next(SUITE.cells())
    with runner._lock(runner._lock_of(cell, cells)) as last:
        assert last == ""  # nobody had it before
        assert runner._run(cell, SUITE, cells) is False
    assert runner._run(cell, SUITE, cells) is True


def test_a_warm_start_is_made_by_one(cells, tmp_path, monkeypatch):
    warm = tmp_path / "warm.safetensors"
    warm.unlink()
    made = []

    def load_warm_model(task, seed, from_scratch):
        made.append(seed)
        warm.touch()

    monkeypatch.setattr(runner, "load_warm_model", load_warm_model)
    first, second = list(SUITE.cells())[:2]
    with runner._lock(warm.with_suffix(".lock")):
        assert runner._run(first, SUITE, cells) is False  # somebody is making it
    assert runner._run(first, SUITE, cells) is True and runner._run(second, SUITE, cells) is True
    assert made == [0]
