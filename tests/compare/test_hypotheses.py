"""Hypotheses are judged by their interval and their margin, as they were written down."""

import pytest

from sightline.compare.hypotheses import (
    Hypothesis,
    check_seeds,
    judge,
    judge_all,
    parse_hypotheses,
)
from sightline.compare.page import write_page
from sightline.compare.results import ResultSet
from sightline.compare.suite import parse_suite
from sightline.report.tables import Table

TASKS = ("digits-sum-12-free", "digits-sum-48-free")
TEXT = """
tasks: [digits-sum-12-free, digits-sum-48-free]
rules: [uniform, pgpo]
learning_rates: [1e-4]
seeds: [0, 1, 2, 3, 4]
protocol: {steps: 2, measure_every: 2}
"""
SUITE = parse_suite("small", TEXT)
LEADS = {TASKS[0]: (0.02, 0.04, 0.03, 0.02, 0.04), TASKS[1]: (0.10, 0.11, 0.12, 0.10, 0.12)}


def results(document=None):
    """PGPO ends above uniform credit by `LEADS`, and began 0.01 above it."""
    cells = []
    for cell in SUITE.cells():
        lead, start = (LEADS[cell.task][cell.seed], 0.01) if cell.rule == "pgpo" else (0.0, 0.0)
        points = [
            {"step": step, "accuracy": value, "reading": 0.5, "twin_accuracy": None}
            for step, value in ((0, 0.3 + start), (2, 0.5 + lead))
        ]
        place = {"task": cell.task, "rule": cell.rule, "seed": cell.seed}
        cells.append({**place, "learning_rate": cell.learning_rate, "points": points})
    registration = {"document": document and "d.yaml", "text": document, "time": "today"}
    registration |= {"suite_sha256": SUITE.sha256, "document_sha256": "0" * 64}
    about = {"name": "small", "suite": TEXT, "registration": registration}
    about |= {"command": "c", "machine": "m", "versions": {"sightline": "0"}}
    return ResultSet(about, cells)


def verdict(task, rules=("pgpo", "uniform"), **fields):
    tasks = (task,) if isinstance(task, str) else task
    return judge(Hypothesis("H", "a claim", tasks, rules, **fields), results())


@pytest.mark.parametrize(
    ("expect", "margin", "said"),
    [
        # leads of 2, 4, 3, 2 and 4 points: mean 3, deviation 1, t = 2.776 with 4 degrees of
        # freedom, so 3 ± 2.776 / sqrt(5) = 3 ± 1.24
        ("above", 0.0, "held"),
        ("above", 0.03, "undecided"),
        ("above", 0.05, "refuted"),
        ("below", 0.0, "refuted"),
        ("within", 0.05, "held"),
        ("within", 0.03, "undecided"),
        ("within", 0.01, "refuted"),
    ],
)
def test_by_interval_and_margin(expect, margin, said):
    found = verdict(TASKS[0], expect=expect, margin=margin)
    assert found.said == said and found.sample == 5
    assert found.mean == pytest.approx(0.03)
    assert (found.low, found.high) == pytest.approx((0.0176, 0.0424), abs=1e-4)
    assert found.p == pytest.approx(2 / 32)  # all leads are positive


@pytest.mark.parametrize(
    ("expect", "margin", "said"),
    [
        ("below", 0.0, "held"),
        ("below", 0.05, "refuted"),
        ("above", 0.0, "refuted"),
        ("within", 0.01, "refuted"),
        ("within", 0.05, "held"),
    ],
)
def test_the_other_way_round(expect, margin, said):
    found = verdict(TASKS[0], ("uniform", "pgpo"), expect=expect, margin=margin)
    assert found.mean == pytest.approx(-0.03) and found.said == said


def test_of_two_tasks_the_second_is_taken_away():
    # per seed 8, 7, 9, 8 and 8 points more
    found = verdict((TASKS[1], TASKS[0]), margin=0.06)
    assert found.mean == pytest.approx(0.08) and found.said == "held"
    assert verdict((TASKS[0], TASKS[1])).mean == pytest.approx(-0.08)


def test_over_all_tasks_the_tasks_are_the_sample():
    """Means of 3, 11 and 7 points: 7 ± 4.303 · 4 / sqrt(3) = 7 ± 9.94."""
    three = parse_suite("s", TEXT.replace("tasks: [", "tasks: [text-only, irrelevant, shapes, "))
    document = "H: {says: a lead, task: all, rules: [pgpo, uniform]}"
    hypothesis = parse_hypotheses(document, three)[0]
    assert hypothesis.tasks == ("shapes", *TASKS)  # nothing has to be read in the other two
    two = results()
    cells = [{**c, "task": "shapes"} for c in two.cells if c["task"] == TASKS[0]]
    for cell in cells:
        cell["points"] = [dict(point) for point in cell["points"]]
        cell["points"][-1]["accuracy"] += 0.04 if cell["rule"] == "pgpo" else 0.0
    found = judge(hypothesis, ResultSet({**two.about, "suite": three.text}, two.cells + cells))
    assert (found.sample, found.said) == (3, "undecided")
    assert (found.mean, found.high) == pytest.approx((0.07, 0.07 + 0.0994), abs=1e-4)
    assert found.p == pytest.approx(2 / 8)
    with pytest.raises(ValueError, match="H: all takes at least 3 tasks of the suite"):
        parse_hypotheses(document, SUITE)


def test_a_change_is_over_the_start():
    assert verdict(TASKS[0], of="change").mean == pytest.approx(0.03 - 0.01)


def test_without_enough_seeds_nothing_is_decided():
    few = results()
    few = ResultSet(few.about, [cell for cell in few.cells if cell["seed"] < 2])
    hypothesis = Hypothesis("H", "a claim", TASKS[:1], ("pgpo", "uniform"))
    found = judge(hypothesis, few)
    assert (found.sample, found.low, found.said) == (2, None, "undecided")
    assert found.mean == pytest.approx(0.03)
    nothing = judge(hypothesis, ResultSet(few.about, []))
    assert (nothing.sample, nothing.mean, nothing.said) == (0, None, "undecided")


DOCUMENT = """
H1: {says: PGPO is <b>indeed</b>, task: digits-sum-12-free, rules: [pgpo, uniform], margin: 0.01}
H2:
  says: and more so where words are rare
  task: [digits-sum-48-free, digits-sum-12-free]
  rules: [pgpo, uniform]
  of: change
  expect: within
  margin: 0.01
"""


def test_seeds_that_could_not_decide_are_refused():
    two = parse_suite("two", SUITE.text.replace("[0, 1, 2, 3, 4]", "[0, 1]"))
    with pytest.raises(ValueError, match=r"H1: .* takes at least 3; suite two has \[0, 1\]"):
        check_seeds(parse_hypotheses(DOCUMENT, two), two)
    check_seeds(parse_hypotheses(DOCUMENT, SUITE), SUITE)


def test_the_report_says_what_came_out(tmp_path, monkeypatch):
    from sightline.compare import page

    monkeypatch.setattr(page, "standings", lambda *args: [])
    monkeypatch.setattr(page, "tables_of", lambda *args: [Table("cells", ("rule",), [])])
    for name in ("save_drawings", "dose", "curves"):
        monkeypatch.setattr(page, name, lambda *args: None)
    found = results(DOCUMENT)
    assert [v.said for v in judge_all(found)] == ["held", "refuted"]
    html = write_page(found, tmp_path).read_text()
    text = (tmp_path / "report.md").read_text()
    for said in (html, text):
        assert "Pre-registered" in said and "indeed" in said
        assert "above it by more than 1 points" in said and "change of accuracy" in said
        assert "+8.0 (" in said and "refuted" in said
    assert "<b>indeed" not in html  # what a document says is text
    assert (tmp_path / "tables" / "hypotheses.csv").read_text().count("\n") == 3
    assert "What was expected" not in write_page(results(), tmp_path / "none").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pgpo, uniform], m", "vppo, uniform], m", "H1: the suite has no rule 'vppo'; it has unif"),
        ("task: digits-sum-12-free", "task: shapes", "H1: the suite has no task 'shapes'"),
        ("says: PGPO is <b>indeed</b>, ", "", "H1 lacks says"),
        ("margin: 0.01}", "margins: 1}", "H1: unknown key 'margins'"),
        ("expect: within", "expect: beside", "H2: expect must be one of above, below, within"),
        ("of: change", "of: start", "H2: of must be one of end, change"),
        (
            "margin: 0.01}",
            "margin: -1}",
            "H1: margin must be at least 0, and above it for within, got -1",
        ),
        ("  margin: 0.01\n", "", "H2: margin must be at least 0, and above it"),
        ("margin: 0.01}", "margin: 2}", "H1: margin is a share of 1, 0.03 for three .* got 2"),
        ("pgpo, uniform], m", "pgpo], m", "H1: rules must be two"),
        ("rules: [pgpo, uniform], m", "rules: 5, m", "H1: rules must be a list of names, got 5"),
        ("task: digits-sum-12-free", "task: [5]", "H1: task must be a list of names"),
        ("  of: change", "  number: acuracy", "H2: number must be one of accuracy, reading"),
        ("  of: change", "  number: [reading]", "H2: number must be one of"),
        ("margin: 0.01}", "margin: true}", "H1: margin must be a number, got True"),
        ("digits-sum-48-free, digits-sum-12", "digits-sum-12-free, digits-sum-12", "H2: task"),
        ("H2:", "H1:", "'H1' stands twice"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(old, new, said):
    assert len(parse_hypotheses(DOCUMENT, SUITE)) == 2
    with pytest.raises(ValueError, match=said):
        parse_hypotheses(DOCUMENT.replace(old, new), SUITE)


def test_what_would_be_chosen_by_what_is_judged_is_refused():
    several = parse_suite("s", TEXT.replace("[1e-4]", "{default: 1e-4, pgpo: [1e-4, 3e-4]}"))
    with pytest.raises(ValueError, match="H1: pgpo has several learning rates in the suite"):
        parse_hypotheses(DOCUMENT, several)
    without = parse_suite("s", TEXT.replace("steps: 2", "twins: 0, steps: 2"))
    text = DOCUMENT.replace("  of: change", "  number: twin_accuracy")
    assert parse_hypotheses(text, SUITE)
    with pytest.raises(ValueError, match="H2: twin_accuracy is not measured with twins: 0"):
        parse_hypotheses(text, without)


def test_of_a_suite_that_was_changed_nothing_is_judged():
    found = results(DOCUMENT)
    found.about["registration"]["suite_sha256"] = "another"
    assert judge_all(found) == []


@pytest.mark.parametrize(
    ("text", "said"), [("[", "is not YAML"), ("H1", "must map names"), ("H1: x", "H1 must be a")]
)
def test_what_is_no_document_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_hypotheses(text, SUITE)


@pytest.mark.parametrize(
    ("number", "task", "said"),
    [
        ("twin_accuracy", "text-only", "H1: text-only has no twins, so no twin_accuracy"),
        ("precision_kl", "text-only", "nothing has to be read in text-only, so it has no prec"),
        ("auroc_k3", "irrelevant", "nothing has to be read in irrelevant, so it has no auroc_k3"),
    ],
)
def test_what_a_task_has_not_is_refused(number, task, said):
    suite = parse_suite("s", TEXT.replace("tasks: [", f"tasks: [{task}, "))
    text = f"H1: {{says: more, task: {task}, rules: [pgpo, uniform], number: NUMBER}}"
    assert parse_hypotheses(text.replace("NUMBER", "accuracy"), suite)
    with pytest.raises(ValueError, match=said):
        parse_hypotheses(text.replace("NUMBER", number), suite)
