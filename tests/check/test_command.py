"""`sightline check` as a user starts it."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from sightline.check import environment
from sightline.check.findings import OK, PROBLEM, Finding
from sightline.cli import main

# nothing of it is on this machine, so that only the data is looked at, which is quick
AWAY = ["--model", "Qwen/Qwen2.5-VL-3B-Instruct"]
SMALL = ["--threads", "1", "--per_device_train_batch_size", "8"]


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def data(in_folder):
    for number in range(3):
        Image.new("RGB", (48, 32), (80 * number, 9, 9)).save(in_folder / f"{number}.png")
    rows = [
        {"id": f"r{n}", "problem": f"<image> {n} + 1?", "images": [f"{n}.png"], "answer": n + 1}
        for n in range(3)
    ]
    write(in_folder / "rows.jsonl", rows)
    return rows


def checked(capsys, *flags):
    """Exit code, and the findings by kind: those on all rows, and those on single ones."""
    capsys.readouterr()
    code = main(["check", "--json", *SMALL, *flags])
    content = json.loads(capsys.readouterr().out)
    whole = {f["kind"]: f for f in content["findings"] if not f["row"]}
    return code, whole, [f for f in content["findings"] if f["row"]], content


def test_a_run_that_can_start(data, in_folder, capsys):
    code, whole, rows, content = checked(capsys, "--data", "rows.jsonl", "--algorithm", "vppo")
    assert (code, rows, content["problems"]) == (0, [], 0)
    assert {kind: f["severity"] for kind, f in whole.items() if f["severity"] != "ok"} == {}
    assert set(whole) == {
        *("environment.versions", "environment.packages", "environment.gpu", "rows.source"),
        *("rows.unreadable", "rows.duplicate", "rows.contradiction", "golds.accepted"),
        *("golds.shuffled", "golds.format", "golds.prompt", "prompts.processor"),
        *("prompts.image-tokens", "prompts.length", "model.dependency", "model.pixels"),
        *("model.noise-floor", "cost.memory", "cost.time"),
    }
    assert content["checked"] == "3 rows of rows.jsonl for vppo on model tiny"
    assert whole["prompts.image-tokens"]["numbers"]["most"] == 6
    assert sorted(path.name for path in in_folder.iterdir()) == [
        *("0.png", "1.png", "2.png", "rows.jsonl")
    ]


def test_images_outside_of_the_folder_are_taken_where_that_is_allowed(data, in_folder, capsys):
    (in_folder / "inner").mkdir()
    rows = [{**row, "images": [f"../{row['images'][0]}"]} for row in data]
    write(in_folder / "inner" / "rows.jsonl", rows)
    flags = ["--data", "inner/rows.jsonl", "--eval-data", "inner/rows.jsonl", *AWAY]
    code, _, on_rows, _ = checked(capsys, *flags)
    assert code == 1 and "(--allow-outside-root)" in on_rows[0]["what"]
    for flag in ("--allow-outside-root", "--allow_outside_root"):  # and of the evaluation as well
        _, whole, on_rows, _ = checked(capsys, *flags, flag)
        assert {row["kind"] for row in on_rows} == {"rows.overlap"}
        assert whole["rows.unreadable"]["severity"] == "ok"
    # the run that is checked takes them too
    from sightline.run_arguments import parse
    from sightline.train import _rows

    run, _, args = parse(["--data", "inner/rows.jsonl", "--allow_outside_root"])
    assert len(_rows(run, args, in_folder)[0]) == 3


def test_columns_that_are_named_are_checked(data, in_folder, capsys):
    rows = [{**row, "query": row["problem"]} for row in data]
    write(in_folder / "rows.jsonl", [{k: row[k] for k in row if k != "problem"} for row in rows])
    named = json.dumps({"prompt": "query"})
    code, whole, on_rows, _ = checked(capsys, "--data", "rows.jsonl", "--columns", named, *AWAY)
    assert (code, on_rows) == (0, []) and "prompt ← query" in whole["rows.source"]["what"]


def test_data_with_problems(data, in_folder, capsys):
    (in_folder / "held").mkdir()
    Image.open("1.png").save(in_folder / "held" / "again.png", compress_level=0)
    held = [{"id": "h0", "problem": "<image> 5?", "images": ["again.png"], "answer": 6}]
    write(in_folder / "held" / "held.jsonl", held)
    data += [
        {**data[0], "id": "r3", "answer": "7" * 1001},
        {**data[0], "id": "r4", "images": ["9.png"]},
    ]
    write(in_folder / "rows.jsonl", data)
    flags = ["--data", "rows.jsonl", "--eval-data", "held/held.jsonl", *AWAY]
    code, whole, rows, content = checked(capsys, *flags)
    assert code == 1 and content["problems"] == 4
    assert content["checked"].startswith("4 of 5 rows of rows.jsonl for ")
    accounts = [f["what"] for f in content["findings"] if f["kind"] == "rows.source"]
    assert [what.split(";")[0] for what in accounts] == [
        *("5 rows in rows.jsonl = 4 used + 1 listed", "1 rows in held.jsonl = 1 used + 0 listed"),
    ]
    assert {(f["row"], f["kind"]) for f in rows if f["severity"] == "problem"} == {
        ("r3", "rows.contradiction"),
        ("r3", "golds.accepted"),
        ("r4", "rows.unreadable"),
        ("h0", "rows.overlap"),
    }
    assert whole["golds.accepted"]["numbers"] == {"rows": 4, "accepted": 3}
    # rows that the run leaves out are no problem of the run
    flags = ["--data", "rows.jsonl", "--bad_rows", "skip-and-list", *AWAY]
    code, whole, _, _ = checked(capsys, *flags)
    assert whole["rows.unreadable"]["severity"] == "warning"
    # of rows that are not trained on, nothing is asked
    code, whole, rows, _ = checked(capsys, *flags, "--rows", "3")
    assert code == 0 and [f["row"] for f in rows] == ["r4"]


def test_more_rows_than_the_page_holds_go_to_a_file(data, in_folder, capsys):
    write(in_folder / "rows.jsonl", data + [{**data[0], "id": f"d{n}"} for n in range(20)])
    assert main(["check", *SMALL, *AWAY, "--data", "rows.jsonl"]) == 0
    assert "all rows in question" not in capsys.readouterr().out  # they fit
    write(in_folder / "rows.jsonl", data + [{**data[0], "id": f"d{n}"} for n in range(21)])
    assert main(["check", *SMALL, *AWAY, "--data", "rows.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "the first 20 of 21" in out and "all rows in question: runs/check/check.jsonl" in out
    lines = (in_folder / "runs" / "check" / "check.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [f"d{n}" for n in range(21)]
    checked(capsys, *AWAY, "--data", "rows.jsonl")  # the JSON has them all
    assert [path.name for path in (in_folder / "runs").iterdir()] == ["check"]
    checked(capsys, *AWAY, "--data", "rows.jsonl", "--output", "mine/here")
    assert len((in_folder / "mine" / "here" / "check.jsonl").read_text().splitlines()) == 21


def test_the_yaml_of_a_run_is_checked(in_folder, tiny, capsys, monkeypatch):
    tiny.model.save_pretrained(in_folder / "model")
    tiny.processor.save_pretrained(in_folder / "model")
    (in_folder / "run.yaml").write_text(
        "model: ./model\nrows: 4\nmax_completion_length: 990\nnum_generations: 2\n"
    )
    code, whole, rows, content = checked(capsys, "--config", "run.yaml")
    assert code == 0 and content["checked"] == "4 rows of task digits for pgpo on model ./model"
    # the tiny model takes 1,024 tokens, of which a prompt of some sixty leaves too few
    assert {f["kind"] for f in rows if "990 tokens to the response" in f["what"]} == {
        "prompts.length"
    }
    assert len(rows) == 4 and whole["model.pixels"]["severity"] == "ok"
    with monkeypatch.context() as patch:
        patch.setattr("sightline.check.whole.capacity", lambda: 1e6)
        code, whole, _, _ = checked(capsys, "--config", "run.yaml")
    assert code == 0 and "for the weights take" in whole["model.unchecked"]["what"]
    weights = in_folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    code, whole, _, _ = checked(capsys, "--config", "run.yaml")
    assert code == 1 and "cannot be loaded" in whole["model.weights"]["what"]
    weights.unlink()
    code, whole, _, _ = checked(capsys, "--config", "run.yaml")
    assert code == 0 and "not checked" in whole["model.unchecked"]["what"]


def test_a_model_that_is_not_at_hand_is_said_to_be_unchecked(data, capsys):
    code, whole, _, _ = checked(capsys, "--data", "rows.jsonl", *AWAY)
    assert code == 0 and whole["model.unchecked"]["severity"] == "warning"
    assert "prompts and model: not checked" in whole["model.unchecked"]["what"]
    assert "not estimated" in whole["cost.memory"]["what"]
    assert not {"prompts.length", "model.dependency"} & set(whole)
    assert whole["golds.accepted"]["severity"] == "ok"


def test_rows_without_an_image_leave_the_dependency_unchecked(in_folder, capsys):
    write(in_folder / "rows.jsonl", [{"problem": f"{n}?", "answer": n} for n in range(3)])
    code, whole, _, _ = checked(capsys, "--data", "rows.jsonl")
    assert code == 0 and "no row that can be scored has" in whole["model.unchecked"]["what"]


def test_no_rows_and_too_few_rows_are_problems(data, in_folder, capsys):
    flags = ["--data", "rows.jsonl", "--num_generations", "2"]
    code, whole, _, _ = checked(capsys, *flags)  # 8 responses are 4 prompts, and there are 3 rows
    assert code == 1 and "takes 4 prompts, and there are 3" in whole["cost.rows"]["what"]
    write(in_folder / "rows.jsonl", [{"problem": "?", "images": ["7.png"], "answer": 1}])
    code, whole, _, _ = checked(capsys, "--data", "rows.jsonl", *AWAY)
    assert code == 1 and whole["rows.none"]["severity"] == "problem"


def test_bad_rows_of_the_evaluation_are_problems_whatever_the_run_skips(data, in_folder, capsys):
    held = [{"id": "h", "problem": "<image> 5?", "images": ["9.png"], "answer": 6}]
    write(in_folder / "held.jsonl", held)
    flags = ["--data", "rows.jsonl", "--eval-data", "held.jsonl", "--bad_rows", "skip-and-list"]
    code, _, rows, _ = checked(capsys, *flags, *AWAY)
    assert code == 1
    assert [(f["row"], f["severity"]) for f in rows] == [("h", "problem")]


def test_columns_that_are_told_are_those_of_the_evaluation_too_if_it_has_them(
    data, in_folder, capsys
):
    told = [{"id": r["id"], "ask": r["problem"], "images": r["images"], "gold": r["answer"]}
            for r in data]  # fmt: skip
    write(in_folder / "told.jsonl", told)
    flags = ["--data", "told.jsonl", "--columns", "prompt=ask,answer=gold", *AWAY]
    for held in ("told.jsonl", "rows.jsonl"):
        code, _, rows, _ = checked(capsys, *flags, "--eval-data", held)
        assert code == 1 and {row["kind"] for row in rows} == {"rows.overlap"}


def test_the_model_is_asked_about_eight_rows(in_folder, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("sightline.check.whole.reach", lambda *given: asked.append(given) or [])
    code, _, _, _ = checked(capsys, "--task", "digits", "--rows", "20")
    ((_, _, rows, golds),) = asked
    assert code == 0 and len(rows) == len(golds) == 8


def test_math_verify_is_started_while_rows_are_read_where_a_gold_needs_it(
    data, in_folder, capsys, monkeypatch
):
    seen = []

    def start(verifier, golds):
        seen.extend(golds)
        return "\\sqrt{2}" in seen

    monkeypatch.setattr("sightline.rewards.Verifier.start", start)
    rows = [{**data[0], "id": str(n), "problem": f"<image> {n}?"} for n in range(40)]
    rows[17]["answer"] = "\\sqrt{2}"
    write(in_folder / "rows.jsonl", rows)
    checked(capsys, "--data", "rows.jsonl", *AWAY)
    assert len(seen) == 32  # two batches of 16, and none after the one that has it


def test_what_a_run_with_vllm_lacks_is_a_problem(data, capsys):
    flags = ["--data", "rows.jsonl", "--use_vllm", "--vllm_mode", "colocate", *AWAY]
    code, _, _, content = checked(capsys, *flags)
    said = [f for f in content["findings"] if f["kind"] == "environment.packages"]
    assert code == 1 and "vLLM, which is not installed" in said[-1]["what"]


def test_more_memory_than_there_is(data, capsys, monkeypatch):
    monkeypatch.setattr("sightline.check.cost.capacity", lambda: 1e6)
    monkeypatch.setattr("sightline.check.whole.capacity", lambda: 1e6)
    code, whole, _, _ = checked(capsys, "--data", "rows.jsonl")
    assert code == 0 and whole["cost.memory"]["severity"] == "warning"
    assert whole["cost.memory"]["numbers"]["available"] == 1e6


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--learning_rat", "1"], "did you mean --learning_rate"),
        (["--model", "./nowhere"], "no model at './nowhere'"),
        (["--data", "none.jsonl"], "none.jsonl"),
        (["--save_only_model"], "refuses save_only_model"),
    ],
)
def test_what_train_refuses_is_refused(in_folder, capsys, flags, sentence):
    assert main(["check", *flags]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("sightline: ") and sentence in err
    assert not list(in_folder.iterdir())


def test_without_trl_the_environment_alone_is_checked(in_folder, capsys, monkeypatch):
    missing = Finding(PROBLEM, "environment.packages", "no trl", "pip install 'sightline[trl]'")
    monkeypatch.setattr(environment, "packages", lambda needed: [missing])
    monkeypatch.setattr("sightline.check.whole.look", None)
    assert main(["check"]) == 1
    assert "→ pip install 'sightline[trl]'" in capsys.readouterr().out


def test_without_the_verifier_golds_are_said_to_be_unchecked(data, capsys, monkeypatch):
    from sightline.check import golds

    def missing(extractor):
        raise ImportError("verifying answers needs math-verify")

    monkeypatch.setattr(golds, "judge_of", missing)
    code, whole, _, _ = checked(capsys, "--data", "rows.jsonl", *AWAY)
    assert code == 0 and "not checked: verifying" in whole["golds.accepted"]["what"]


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"),
    [(True, None, True), (True, "", True), (True, "1", False), (False, None, False)],
)
def test_colour_is_for_terminals(in_folder, monkeypatch, terminal, no_color, coloured):
    said = []
    fine = Finding(OK, "rows.source", "fine")
    monkeypatch.setattr("sightline.check.whole.look", lambda flags, data: ("t", [fine]))
    screen = SimpleNamespace(isatty=lambda: terminal, write=said.append, flush=lambda: None)
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert main(["check"]) == 0
    assert ("\x1b[32m" in "".join(said)) == coloured


def test_help_names_what_is_its_own(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["check", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and "--eval-data" in out and "--learning_rate" in out
