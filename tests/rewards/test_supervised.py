"""Reward functions that misbehave, one row each, beside rows that do not."""

import functools
import logging
import os
import time

import pytest
import reward_plugins

from sightline.rewards import Mixed, supervised


@pytest.fixture(scope="module")
def careful():
    reward = supervised(reward_plugins.by_name, deadline=1.0, memory=2**28)
    yield reward
    reward.workers.close()


KINDS = {
    "none": "none",
    "text": "not_a_number",
    "nan": "not_finite",
    "infinite": "not_finite",
    "fail": "raised",
    "leave": "raised",
    "exit": "died",
    "crash": "died",
    "leak": "raised",
    "sleep": "timed_out",
}


def test_each_misbehaviour_is_counted_by_kind_and_harms_no_other_row(careful, caplog):
    careful(completions=["good"], answer=["1"])
    careful.counts.clear()
    process = careful.workers._close
    metrics = []
    rows = [name for kind in KINDS for name in ("good", kind)] + ["good"]
    with caplog.at_level(logging.WARNING):
        rewards = careful(
            completions=rows,
            answer=[str(n) for n in range(len(rows))],
            trainer_state=object(),
            log_metric=lambda name, value: metrics.append((name, value)),
        )
    assert rewards == [float(n) if name == "good" else None for n, name in enumerate(rows)]
    assert careful.workers._close is process  # no task was lost, to be done by another
    expected = list(KINDS.values())
    assert careful.counts == {
        "number": 11,
        **{kind: expected.count(kind) for kind in KINDS.values()},
    }
    assert ("by_name/died", 2 / 21) in metrics and ("by_name/wrong_length", 0.0) in metrics
    assert sum(value for _, value in metrics) == pytest.approx(1)
    # None is a reward function's right, so that 9 rows failed
    assert "by_name: 9 of 21 rows have no reward; the first is row 3, not_a_number" in caplog.text


def test_what_went_wrong_is_told(careful):
    names = ["fail", "exit", "crash", "leak", "text"]
    outcomes = careful.workers.run([{"completions": [name], "answer": ["gold"]} for name in names])
    assert [outcome.message for outcome in outcomes] == [
        "KeyError: 'gold'",
        "exit code 3",
        "killed by SIGSEGV",
        "MemoryError: ",
        "a str",
    ]


def test_prints_and_forks_do_not_mix_with_results():
    reward = supervised(reward_plugins.by_name, count=1)  # all rows in one worker
    rows = ["print", "fork", "slow", "fork", "slow", "good"]
    assert reward(completions=rows, answer=["7"] * 6) == [1.0] * 5 + [7.0]


def test_a_process_left_behind_is_ended(careful, tmp_path):
    file = tmp_path / "pid"
    assert careful(completions=["process"], answer=[str(file)]) == [1.0]
    pid = int(file.read_text())
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("function", [reward_plugins.two_rewards, reward_plugins.bare_number])
def test_a_list_of_another_length_is_no_reward(function):
    reward = supervised(function)
    assert reward(completions=["a", "b"]) == [None, None]
    assert reward.counts == {"wrong_length": 2}


def test_columns_can_be_chosen():
    reward = supervised(reward_plugins.length, columns=["answer"])
    assert reward(completions=["abc"], answer=["x"], image=[lambda: "no pickle can hold it"]) == [3]
    assert reward.__name__ == "length"


def test_a_function_that_workers_cannot_import_is_refused():
    def inner(completions, **columns):
        return [0.0]

    for function in (inner, lambda completions, **columns: [0.0]):
        with pytest.raises(ValueError, match="at the top level of a module"):
            supervised(function)


def test_columns_of_another_length_are_refused(careful):
    with pytest.raises(ValueError, match="'answer' must hold one value per completion, 2, got 1"):
        careful(completions=["good", "good"], answer=["1"])


def test_mixed_leaves_out_a_row_of_which_one_part_failed():
    def accuracy(completions, **columns):
        return [1.0, 0.0, None]

    def format(completions, **columns):
        return [0.0, 1.0, 1.0]

    metrics = []
    mixed = Mixed((accuracy, 0.9), (format, 0.1))
    rewards = mixed(completions="abc", log_metric=lambda *metric: metrics.append(metric))
    assert rewards == [0.9, 0.1, None]
    assert metrics == [("accuracy/mean", 0.5), ("format/mean", pytest.approx(2 / 3))]
    with pytest.raises(ValueError, match="at least one part"):
        Mixed()


@pytest.mark.parametrize("function", [functools.partial(max, 1), Mixed((max, 1.0)), int])
def test_what_cannot_be_imported_as_a_function_is_refused(function):
    with pytest.raises(ValueError, match="put a plain function at the top level of a module"):
        supervised(function)
