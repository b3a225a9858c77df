"""Suites from YAML, and what is wrong with one said by name."""

import pytest

from sightline.algorithms import PGPO
from sightline.compare.suite import SUITES, find_suite, parse_suite

TEXT = """
tasks: [digits-sum-12-free, charts]
rules: [uniform, pgpo, gentle: {of: pgpo, boost: 0.5}]
learning_rates: {default: [1e-4], pgpo: [1e-5, 3e-5]}
seeds: {first: 100, count: 2}
protocol: {steps: 6, measure_every: 3}
"""


def test_a_suite_is_tasks_times_rules_times_rates_times_seeds():
    suite = parse_suite("mine", TEXT)
    cells = list(suite.cells())
    assert len(cells) == 2 * (1 + 2 + 1) * 2 == len({cell.name for cell in cells})
    assert suite.rules["gentle"] == PGPO(boost=0.5)
    assert [cell.seed for cell in cells] == [100] * 8 + [101] * 8
    assert cells[1].name == "digits-sum-12-free/pgpo/lr1e-05/seed100"
    assert suite.protocol.steps == 6 and suite.reference == "uniform" and suite.oracle is None


def test_seeds_may_share_starts():
    text = TEXT.replace("steps: 6", "steps: 6, warm_starts: 3")
    protocol = parse_suite("mine", text).protocol
    assert [protocol.start(seed) for seed in (0, 4, 101)] == [0, 1, 2]
    assert parse_suite("mine", TEXT).protocol.start(101) == 101


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_suite_of_the_package_is_whole(path):
    assert list(find_suite(path.stem).cells())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("charts", "chart", "unknown task 'chart'"),
        ("[uniform, pgpo,", "[uniform, pgop,", "unknown rule 'pgop'"),
        ("pgpo: [1e-5", "pgpq: [1e-5", "learning_rates of 'pgpq', which is no rule of it"),
        ("default: [1e-4]", "uniform: [1e-4]", "no learning rate for 'gentle', and no default"),
        ("1e-5", "fast", "learning rates of 'pgpo': could not convert"),
        ("1e-5", "-1e-5", "learning rates must be above 0"),
        ("{first: 100, count: 2}", "[1, 1]", "seeds must be different whole numbers"),
        ("measure_every: 3", "measure_every: 4", "measure_every must divide steps, 6, got 4"),
        ("steps: 6", "stps: 6", "protocol has no 'stps'"),
        (
            "steps: 6",
            "steps: 6, warm_starts: 0",
            "warm_starts must be a whole number of at least 1",
        ),
        ("steps: 6", "steps: 0", "steps must be a whole number of at least 1, got 0"),
        ("seeds:", "seed:", "unknown key 'seed'"),
        ("tasks: [digits-sum-12-free, charts]", "", "lacks tasks"),
        ("tasks:", "reference: grpo\ntasks:", "its reference 'grpo' is not among its rules"),
        ("tasks:", "oracle: oracle\ntasks:", "its oracle 'oracle' is not among its rules"),
        (TEXT, "[]", "must be a YAML mapping"),
        (TEXT, "a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(old, new, said):
    assert old in TEXT
    with pytest.raises(ValueError, match=said):
        parse_suite("mine", TEXT.replace(old, new))


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(ValueError, match=r"no suite 'fast': give one of .*quick"):
        find_suite("fast")
