"""Wrong accepts and wrong rejects of three verifiers on the committed answer pairs.

    python benchmarks/verifiers.py --mathruler path/to/venv/bin/python

Compares `sightline.rewards`, math-verify alone (gold and response both in a box, its default
settings) and mathruler 0.1.0 with EasyR1's extraction. mathruler declares none of the packages that
it imports, so it is run by another interpreter, whose environment has mathruler, sympy, pylatexenc
and tqdm. Each pair has five seconds; one that takes longer counts as not accepted, and as a hang.
Writes `benchmarks/results/verifiers.json` and prints a table.
"""

import argparse
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from math_verify import parse, verify  # here, so that a worker need not import it for each fork

PAIRS = Path(__file__).parent.parent / "tests" / "rewards" / "answer_pairs.jsonl"
RESULTS = Path(__file__).parent / "results" / "verifiers.json"
SECONDS = 5

MATHRULER = """
import json, sys
from multiprocessing import get_context
from mathruler.grader import extract_boxed_content, grade_answer

def grade(pair, result):
    result.value = grade_answer(extract_boxed_content(pair["response"]), pair["gold"])

results, fork = [], get_context("fork")
for pair in json.load(sys.stdin):
    result = fork.Value("i", -1)
    process = fork.Process(target=grade, args=(pair, result))
    process.start()
    process.join(%d)
    hangs = process.is_alive()
    process.kill()
    process.join()
    results.append("hang" if hangs else "error" if result.value < 0 else bool(result.value))
print(json.dumps(results))
"""


def pairs() -> list[dict]:
    """The committed pairs, each with a whole response."""
    lines = PAIRS.read_text(encoding="utf-8").splitlines()
    return [{"response": f"\\boxed{{{p.get('answer')}}}", **p} for p in map(json.loads, lines)]


def compare(responses: list[str], golds: list[str]) -> list[float]:
    """math-verify alone, as a worker runs it."""
    gold = parse(f"\\boxed{{{golds[0]}}}", parsing_timeout=None)
    found = parse(responses[0], parsing_timeout=None)
    return [float(verify(gold, found, timeout_seconds=None))]


def math_verify_alone(rows: list[dict]) -> list:
    from sightline.rewards import Workers

    workers = Workers("verifiers", "compare", file=Path(__file__), deadline=SECONDS)
    tasks = [{"responses": [row["response"]], "golds": [row["gold"]]} for row in rows]
    kinds = {"timed_out": "hang", "number": None}
    return [
        kinds.get(outcome.kind, "error") or bool(outcome.number) for outcome in workers.run(tasks)
    ]


def ours(rows: list[dict]) -> list:
    from sightline.rewards import Verdict, Verifier

    verdicts = Verifier(deadline=SECONDS).verdicts(
        [row["response"] for row in rows], [row["gold"] for row in rows]
    )
    names = {Verdict.TIMED_OUT: "hang", Verdict.RAISED: "error"}
    return [names.get(verdict, verdict == Verdict.MATCHED) for verdict in verdicts]


def mathruler(rows: list[dict], interpreter: str) -> list:
    done = subprocess.run(
        [interpreter, "-c", MATHRULER % SECONDS],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def summary(rows: list[dict], results: list, seconds: float) -> dict:
    """Counts, and the pairs that a verifier got wrong."""
    wrong = {True: [], False: []}  # by what was expected
    for row, result in zip(rows, results, strict=True):
        if (result is True) != row["same"]:
            answer = row.get("answer", row["response"])
            wrong[row["same"]].append({"answer": answer, "gold": row["gold"], "result": result})
    return {
        "wrong_accepts": len(wrong[False]),
        "wrong_rejects": len(wrong[True]),
        "hangs": results.count("hang"),
        "errors": results.count("error"),
        "seconds": round(seconds, 1),
        "accepted_wrongly": wrong[False],
        "rejected_wrongly": wrong[True],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mathruler", help="an interpreter that can import mathruler")
    interpreter = parser.parse_args().mathruler
    rows = pairs()
    verifiers = {"sightline": ours, "math-verify": math_verify_alone}
    if interpreter:
        verifiers["mathruler"] = lambda rows: mathruler(rows, interpreter)
    measured = {}
    for name, verifier in verifiers.items():
        begun = perf_counter()
        results = verifier(rows)
        measured[name] = summary(rows, results, perf_counter() - begun)
    same = sum(row["same"] for row in rows)
    report = {
        "pairs": len(rows),
        "same": same,
        "different": len(rows) - same,
        "math-verify": version("math-verify"),
        "python": platform.python_version(),
        "verifiers": measured,
    }
    RESULTS.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("| verifier | wrong accepts | wrong rejects | hangs |\n|---|---|---|---|")
    for name, result in measured.items():
        accepts, rejects = result["wrong_accepts"], result["wrong_rejects"]
        of = len(rows) - same
        print(f"| {name} | {accepts} of {of} | {rejects} of {same} | {result['hangs']} |")


if __name__ == "__main__":
    main()
