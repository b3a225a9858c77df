"""What `check` finds about golds and rewards."""

from types import SimpleNamespace

import pytest

from sightline.check.findings import OK, PROBLEM, WARNING
from sightline.check.golds import (
    accepted,
    check_golds,
    judge_of,
    prompt_alone,
    rendered,
    shuffled,
    start_early,
    well_formed,
)
from sightline.check.rows import Facts
from sightline.rewards import EXTRACTORS, Verdict


def rows(*golds, question="how long?"):
    return [Facts(f"r{n}", question, gold, ()) for n, gold in enumerate(golds)]


def found(findings):
    summary, *on_rows = findings
    return summary.severity, [finding.row for finding in on_rows]


@pytest.mark.parametrize("extractor", [*EXTRACTORS, None])
def test_a_gold_is_rendered_as_the_extractor_reads_it(extractor):
    judge = judge_of(extractor)
    response = rendered("B", extractor)
    assert judge([response, response], ["B", "C"]) == [Verdict.MATCHED, Verdict.DIFFERENT]


@pytest.mark.parametrize(
    ("extractor", "golds", "bad"),
    [
        ("boxed-last", ["12", "0.5", "}{"], ["r2"]),  # no box holds that
        ("letter", ["B", "12 cm", "blue"], ["r1", "r2"]),
        ("answer-tag", ["blue", "12 cm"], []),
        (None, ["7", "12"], []),
    ],
)
def test_golds_that_the_verifier_cannot_accept(extractor, golds, bad):
    findings = accepted(rows(*golds), judge_of(extractor), extractor)
    assert found(findings) == (PROBLEM if bad else OK, bad)
    right = len(golds) - len(bad)
    assert findings[0].numbers == {"rows": len(golds), "accepted": right}
    assert all("is judged" in f.what for f in findings[1:])


def test_golds_with_words_around_them_are_given_as_their_answer():
    written = ["<answer>7</answer>", "1 + 1 = 2\n#### 2", "B. 12 cm", "#### red"]
    for extractor in ("boxed-last", "answer-tag"):
        judge = judge_of(extractor)
        assert found(accepted(rows(*written), judge, extractor)) == (OK, [])
        assert found(shuffled(rows(*written), judge, extractor)) == (OK, [])
    # the built-in tasks compare as it is written
    assert rendered("#### 2", None) == "\\boxed{#### 2}"


def test_only_golds_that_need_it_start_math_verify(monkeypatch):
    started = []
    workers = SimpleNamespace(start=lambda: started.append(1))
    monkeypatch.setattr("sightline.rewards.verdict.math_verify_workers", lambda *_: workers)
    assert not start_early(rows("12", "B. 12 cm", "#### 3", "red", "9" * 2000), "boxed-last")
    assert started == []
    assert start_early(rows("12", "<answer>\\sqrt{2}</answer>"), "boxed-last") and started == [1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not start_early(rows("\\sqrt{2}"), "boxed-last")


def test_a_gold_that_cannot_be_compared_is_a_problem():
    # alike as a text, and no mathematics otherwise
    unread = "\\begin{foo}"
    findings = shuffled(
        rows(unread, "\\sqrt{2}", "\\sqrt{3}"), judge_of("boxed-last"), "boxed-last"
    )
    said = [f for f in findings if f.kind == "golds.accepted"]
    assert [(f.row, f.severity) for f in said] == [("r0", PROBLEM)]
    assert "cannot be compared with another answer: raised" in said[0].what


def test_the_share_from_which_wrong_golds_are_a_problem():
    for many, severity in [(1, WARNING), (2, WARNING), (3, PROBLEM)]:  # of 40: 2.5, 5 and 7.5 %

        def some(responses, golds, many=many):
            return [Verdict.MATCHED] * many + [Verdict.DIFFERENT] * (len(golds) - many)

        summary, *_ = shuffled(rows(*map(str, range(40))), some, "boxed-last")
        assert (summary.severity, summary.numbers["accepted"]) == (severity, many)


def test_a_verifier_that_accepts_other_golds_is_found():
    def generous(responses, golds):
        return [Verdict.MATCHED for _ in golds]

    severity, named = found(shuffled(rows("1", "2", "3"), generous, "boxed-last"))
    assert severity == PROBLEM and sorted(named) == ["r0", "r1", "r2"]
    # one pair of forty, 12 for 12 cm, is less than 5 %: worth a look
    judge = judge_of("boxed-last")

    def once(responses, golds):
        verdicts = list(judge(responses, golds))
        return [Verdict.MATCHED, *verdicts[1:]]

    many = rows(*map(str, range(40)))
    severity, named = found(shuffled(many, once, "boxed-last"))
    assert severity == WARNING and len(named) == 1
    findings = shuffled(many, judge, "boxed-last")
    assert found(findings) == (OK, []) and findings[0].numbers["rows"] == 40


def test_golds_that_are_alike_are_not_told_apart():
    (alike,) = shuffled(rows("7", "7 ", "7"), judge_of("boxed-last"), "boxed-last")
    assert alike.severity == WARNING and "alike" in alike.what
    summary, *_ = shuffled(rows("7", "7", "8"), judge_of("boxed-last"), "boxed-last")
    assert summary.severity == OK and summary.numbers["rows"] == 2


def test_golds_that_keep_the_right_answer_from_the_format_reward():
    assert found(well_formed(rows("12", "\\frac{1}{2}"), "boxed-last")) == (OK, [])
    findings = well_formed(rows("12", "{1"), "boxed-last")
    assert found(findings) == (WARNING, ["r1"])


def test_a_prompt_must_not_be_rewarded_itself():
    judge = judge_of("letter")
    # whose last line is a choice, and the right one
    choices = rows("B", "A", question="Which?\nA. 3 cm\nB. 4 cm")
    findings = prompt_alone(choices, judge, thinks=False)
    assert found(findings) == (PROBLEM, ["r0"]) and "as the right answer" in findings[1].what
    example = rows("1", question="<think> see </think> \\boxed{7}")
    findings = prompt_alone(example, judge_of("boxed-last"), thinks=True)
    assert found(findings) == (PROBLEM, ["r0"]) and "by the format" in findings[1].what
    assert found(prompt_alone(example, judge_of("boxed-last"), thinks=False)) == (OK, [])
    assert found(prompt_alone(rows("1"), judge_of("boxed-last"), thinks=True)) == (OK, [])


def test_the_format_is_looked_at_only_where_it_is_rewarded():
    kinds = {f.kind for f in check_golds(rows("1", "2"), "letter", thinks=False)}
    assert kinds == {"golds.accepted", "golds.shuffled", "golds.prompt"}
    kinds |= {f.kind for f in check_golds(rows("1", "2"), None, thinks=True)}
    assert "golds.format" in kinds
