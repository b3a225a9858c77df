"""Suites from YAML, and what is wrong with one said by name."""

from pathlib import Path

import pytest

from sightline.algorithms import PGPO
from sightline.compare.hypotheses import parse_hypotheses
from sightline.compare.suite import SUITES, check_sample, find_suite, parse_suite

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


def test_numbers_that_yaml_takes_for_text():
    text = TEXT.replace("boost: 0.5", "boost: 5e-1").replace(
        "steps: 6", "update_norm: 1e-2, steps: 6"
    )
    suite = parse_suite("mine", text)
    assert suite.rules["gentle"] == PGPO(boost=0.5) and suite.protocol.update_norm == 0.01


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_suite_of_the_package_is_whole(path):
    assert list(find_suite(path.stem).cells())


def test_the_page_shows_the_quick_suite():
    page = Path(__file__).parents[2] / "docs" / "compare.md"
    lines = (SUITES / "quick.yaml").read_text().splitlines()
    assert "```yaml\n" + "\n".join(lines[1:]) + "\n```" in page.read_text()


def test_every_suite_of_the_evidence_is_whole_and_so_are_its_hypotheses():
    folder = Path(__file__).parents[2] / "benchmarks" / "testbed"
    for path in folder.glob("*.yaml"):
        if not path.stem.endswith("-hypotheses"):
            suite = find_suite(str(path))
            document = path.with_name(f"{path.stem}-hypotheses.yaml")
            if document.exists():
                assert parse_hypotheses(document.read_text(), suite)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("charts", "chart", "unknown task 'chart'"),
        ("[uniform, pgpo,", "[uniform, pgop,", "unknown rule 'pgop'"),
        ("pgpo: [1e-5", "pgpq: [1e-5", "learning_rates of 'pgpq', which is no rule of it"),
        ("default: [1e-4]", "uniform: [1e-4]", "no learning rate for 'gentle', and no default"),
        ("1e-5", "fast", "a learning rate of 'pgpo' must be a number, got 'fast'"),
        ("1e-5", ".nan", "a learning rate of 'pgpo' must be a number, got nan"),
        ("1e-5", "[1e-5]", "a learning rate of 'pgpo' must be a number"),
        ("1e-5", "3e-5", "learning rates must be above 0 and differ in six digits"),
        ("1e-5", "3.0000001e-5", "learning rates must be above 0 and differ in six digits"),
        ("1e-5", "-1e-5", "learning rates must be above 0"),
        ("{first: 100, count: 2}", "5", "seeds must be different whole numbers, at least 0"),
        ("{first: 100, count: 2}", "{first: 1}", "seeds must be different whole numbers"),
        ("count: 2", "count: 0", "seeds must be different whole numbers"),
        ("count: 2", "count: 2, step: 3", "seeds must be different whole numbers"),
        ("{first: 100, count: 2}", "[true, 5]", "seeds must be different whole numbers"),
        ("{first: 100, count: 2}", "[-1, 5]", "seeds must be different whole numbers"),
        ("[digits-sum-12-free, charts]", "charts", "tasks must be a list of names, got 'charts'"),
        ("charts]", "digits-sum-12-free]", "tasks names 'digits-sum-12-free' twice"),
        ("charts]", "digits]", "task 'digits' has no twins"),
        ("charts]", "digits-sum]", "task 'digits-sum' comes as digits-sum-12-free, .*: say which"),
        ("tasks:", "oracle: uniform\ntasks:", "'uniform' cannot be both its reference and its or"),
        ("gentle: {of: pgpo, b", "vppo: {of: pgpo, b", "rule 'vppo' is one of Sightline's own"),
        ("[uniform, pgpo, gentle: {of: pgpo, boost: 0.5}]", "5", "rules must be a list or a map"),
        ("[uniform, pgpo,", "[uniform, uniform, pgpo,", "rules names 'uniform' twice"),
        ("[uniform, pgpo,", "[[uniform], pgpo,", "rules must be a list of names"),
        ("gentle:", '"../gentle":', "a rule is the name of a folder"),
        ("{of: pgpo, boost: 0.5}", "pgpo", "rule 'gentle' must be made of another"),
        ("of: pgpo, boost", "of: [pgpo], boost", "must say what it is made `of`"),
        ("boost: 0.5", "boost: high", "rule 'gentle': boost must be a float, got 'high'"),
        ("boost: 0.5", "boost: true", "rule 'gentle': boost must be a float, got True"),
        ("boost: 0.5", "boost: null", "rule 'gentle': "),
        ("{of: pgpo, boost: 0.5}", "{of: pgpo-shuffled, rule: vppo}", "no setting 'rule'; it has"),
        ("seeds:", "tasks: [charts]\nseeds:", "'tasks' stands twice"),
        ("{steps: 6, measure_every: 3}", "5", "protocol must be a mapping, got 5"),
        ("{steps: 6, measure_every: 3}", "[]", r"protocol must be a mapping, got \[\]"),
        ("steps: 6, measure_every: 3", "steps: true", "steps must be a whole number"),
        ("tasks:", "reference: null\ntasks:", "its reference None is not among its rules"),
        ("tasks:", "oracle: [pgpo]\ntasks:", r"its oracle \['pgpo'\] is not among its rules"),
        ("{first: 100, count: 2}", "[1, 1]", "seeds must be different whole numbers"),
        ("measure_every: 3", "measure_every: 4", "measure_every must divide steps, 6, got 4"),
        ("steps: 6", "stps: 6", "protocol: unknown key 'stps'"),
        (
            "steps: 6",
            "steps: 6, warm_starts: 0",
            "warm_starts must be a whole number of at least 1",
        ),
        ("steps: 6", "twins: -1, steps: 6", "twins must be a whole number of at least 0, got -1"),
        ("steps: 6", "steps: 0", "steps must be a whole number of at least 1, got 0"),
        ("seeds:", "seed:", "unknown key 'seed'"),
        ("tasks: [digits-sum-12-free, charts]", "", "lacks tasks"),
        ("tasks:", "reference: grpo\ntasks:", "its reference 'grpo' is not among its rules"),
        ("tasks:", "oracle: oracle\ntasks:", "its oracle 'oracle' is not among its rules"),
        (TEXT, "[]", "suite mine must be a mapping"),
        (TEXT, "a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(old, new, said):
    assert old in TEXT
    with pytest.raises(ValueError, match=said):
        parse_suite("mine", TEXT.replace(old, new))


def test_one_seed_is_enough_where_tasks_are_the_sample():
    check_sample(parse_suite("mine", TEXT))
    text = TEXT.replace("count: 2", "count: 1").replace("charts]", "charts, irrelevant]")
    text = text.replace("pgpo: [1e-5, 3e-5]", "pgpo: 1e-5")
    check_sample(parse_suite("mine", text.replace("irrelevant", "photos")))
    for other in (text, text.replace("irrelevant", "photos").replace("1e-5", "[1e-5, 3e-5]")):
        with pytest.raises(ValueError, match=r"from 3 on .* or over 3 tasks .* got seeds \[100\]"):
            check_sample(parse_suite("mine", other))


def test_text_that_is_none_is_refused_by_file(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"tasks: [\xff]")
    with pytest.raises(ValueError, match=r"mine\.yaml is not UTF-8 text"):
        find_suite(str(tmp_path / "mine.yaml"))


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(ValueError, match=r"no suite 'fast': give one of .*quick"):
        find_suite("fast")
