"""`sightline eval` from end to end, and one clear sentence for each mistake."""

import json

import pytest
import yaml
from PIL import Image
from test_benchmarks import look_alike

from sightline.cli import main
from sightline.evaluate.command import choose_prompt, left_out
from sightline.evaluate.models import trained_prompt
from sightline.evaluate.protocol import load_protocol
from sightline.prompts import find_prompt

SHORT = ["--n", "2", "--max_new_tokens", "45", "--threads", "1"]


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv):
    """The one sentence that `sightline eval argv` is refused with."""
    assert main(["eval", *argv]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("sightline: ") and "Traceback" not in err
    return err


def test_from_questions_to_a_table_a_report_and_a_comparison(in_folder, capsys):
    command = ["eval", "--questions", "3", *SHORT, "--image", "true", "none"]
    assert main([*command, "-o", "one"]) == 0
    out = capsys.readouterr().out
    assert "digits: 3 questions, 12 responses by tiny" in out
    assert "its own image rather than no image: " in out
    assert "answers from boxed-last v1, no judge" in out
    result = json.loads((in_folder / "one" / "result.json").read_text())
    assert result["conditions"]["true"]["samples"] == 6
    protocol = result["protocol"]
    assert protocol["prompt"]["name"] == "none"  # as it was warmed up
    assert protocol["decoding"] == {"n": 2, "temperature": 1, "top_p": 1, "max_new_tokens": 45}
    assert protocol["verifier"]["extractor"] == {"name": "boxed-last", "version": 1}
    assert protocol["questions"] == 3 and len(protocol["ids_blake2b"]) == 32
    assert result["model"]["name"] == "tiny" and len(result["model"]["weights"]) == 32
    assert result["versions"]["torch"]
    assert main(["report", "one"]) == 0
    assert "12 of 12 responses" in (in_folder / "one" / "report.html").read_text()

    # going on with what is there, and with nothing else
    samples = (in_folder / "one" / "samples.jsonl").read_bytes()
    assert "go on with it by --resume" in refused(capsys, *command[1:], "-o", "one")
    changed = [*command[1:], "-o", "one", "--resume", "--seed", "1"]
    assert "seed was 0, now 1" in refused(capsys, *changed)
    assert main([*command, "-o", "one", "--resume"]) == 0
    assert (in_folder / "one" / "samples.jsonl").read_bytes() == samples

    assert main(["eval", "--questions", "2", *SHORT, "-o", "two"]) == 0
    said = refused(capsys, "--compare", "one", "two")
    assert "number of questions: 3 and 2; rows: " in said
    assert main(["eval", "--questions", "3", *SHORT, "-o", "three"]) == 0
    capsys.readouterr()
    assert main(["eval", "--compare", "one", "three"]) == 0
    out = capsys.readouterr().out
    # the same model with the same dice
    assert "its own image: the second has +0.0 points, 95 % interval +0.0 to +0.0, over 3" in out
    assert "McNemar's exact p = 1" in out


def test_a_benchmark_of_ones_own_says_what_is_otherwise(in_folder, capsys):
    protocol = load_protocol("mathverse")
    look_alike(in_folder / "copy", protocol.source, answers=["1", "2", "3"])
    capsys.readouterr()
    content = {**protocol.about(), "rows": 3, "papers": []}
    content["source"]["dataset"] = "copy"
    (in_folder / "mine.yaml").write_text(yaml.safe_dump(content))
    command = ["--benchmark", "mine.yaml", *SHORT, "--max_new_tokens", "3", "-o", "run"]
    said = refused(capsys, *command)  # tiny was not told how to answer
    assert "with the prompt format 'none', and benchmark 'mathverse' asks in 'think-boxed'" in said
    assert not (in_folder / "run").exists()
    command += ["--prompt", "think-boxed", "--image", "other"]
    assert main(["eval", *command]) == 0
    out = capsys.readouterr().out
    assert "note: the model was trained with prompt none, asked with think-boxed" in out
    assert "frozen protocol mathverse, changed: n 2, max_new_tokens 3\n" in out
    protocol = json.loads((in_folder / "run" / "result.json").read_text())["protocol"]
    assert protocol["other_than_frozen"] == {"n": 2, "max_new_tokens": 3}
    assert protocol["benchmark"]["name"] == "mathverse" and protocol["without_instruction"] == 0


def test_questions_without_a_partner_are_named(in_folder, capsys):
    for name in ("red", "blue"):
        Image.new("RGB", (32, 32), name).save(in_folder / f"{name}.png")
    rows = [["red.png"], ["blue.png"], ["red.png", "blue.png"]]
    (in_folder / "rows.jsonl").write_text(
        "\n".join(
            json.dumps({"id": f"q{n}", "problem": "1 + 1?", "images": images, "answer": 2})
            for n, images in enumerate(rows)
        )
    )
    command = ["eval", "--data", "rows.jsonl", "--n", "1", "--max_new_tokens", "2", "-o", "run"]
    assert main([*command, "--threads", "1", "--image", "true", "other"]) == 0
    out = capsys.readouterr().out
    assert out.count("WARNING: 1 of 3 questions are left out of --image other: ") == 2
    assert "differ from theirs: q2\n" in out
    result = json.loads((in_folder / "run" / "result.json").read_text())
    assert result["protocol"]["left_out_of_other"] == ["q2"]
    found = result["conditions"]
    assert (found["true"]["questions"], found["other"]["questions"]) == (3, 2)


def test_columns_are_told_and_bad_rows_are_left_out_where_one_says_so(in_folder, capsys):
    Image.new("RGB", (32, 32)).save(in_folder / "x.png")
    (in_folder / "half.png").write_bytes((in_folder / "x.png").read_bytes()[:60])
    rows = [{"ask": "1 + 1?", "image": f"{name}.png", "label": 2} for name in ("x", "half", "no")]
    (in_folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["--data", "rows.jsonl", "--n", "1", "--max_new_tokens", "2", "--threads", "1"]
    assert "--columns prompt=NAME" in refused(capsys, *command, "-o", "run")
    command += ["--columns", "prompt=ask,answer=label", "-o", "run"]
    assert "2 of 3 rows" in refused(capsys, *command)
    assert not (in_folder / "run").exists()
    command += ["--bad-rows", "skip-and-list"]
    assert main(["eval", *command]) == 0
    assert "rows.jsonl: 1 rows used, 2 listed as bad" in capsys.readouterr().out
    listed = (in_folder / "run" / "bad_rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"] for line in listed] == ["half.png", "no.png"]
    result = json.loads((in_folder / "run" / "result.json").read_text())
    assert (result["bad_rows"], result["protocol"]["questions"]) == (2, 1)


def test_a_long_list_of_questions_is_cut_short():
    said = left_out({"left_out_of_other": [f"q{n}" for n in range(22)], "questions": 30})
    assert len(said) == 1 and said[0].endswith("q18, q19 and 2 more")
    assert left_out({"left_out_of_other": [], "questions": 30}) == []


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--benchmark", "geo4k"], "unknown benchmark 'geo4k'; known: dynamath, geo3k"),
        (["--task", "chess"], "unknown task 'chess'; known: digits"),
        (["--n", "0"], "n must be at least 1, got 0"),
        (["--top_p", "1.5"], "top_p must be in (0, 1], got 1.5"),
        (["--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["--questions", "0"], "--questions must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--image", "true", "true"], "--image names a condition twice"),
        (["--bad-rows", "skip-and-list"], "are of --data, which is not given"),
        (["--resume"], "--resume needs --output-dir"),
        (["--data", "empty.jsonl"], "empty.jsonl holds no rows"),
        (["--data", "blind.jsonl", "--image", "none"], "no question has an image, so --image none"),
        (["--model", "./nowhere", "--questions", "1"], "no model at './nowhere'"),
        (["--compare", "a", "b"], "a holds no finished evaluation"),
        (["--temprature", "1"], "did you mean --temperature"),
    ],
)
def test_a_request_that_cannot_be_met_leaves_no_run(in_folder, capsys, flags, sentence):
    (in_folder / "empty.jsonl").write_text("")
    (in_folder / "blind.jsonl").write_text('{"problem": "1 + 1?", "answer": 2}\n')
    assert sentence in refused(capsys, *flags)
    assert not (in_folder / "runs").exists()


def test_a_checkpoint_is_asked_as_it_was_trained(in_folder, tiny, capsys):
    checkpoint = in_folder / "run" / "checkpoint"
    tiny.model.save_pretrained(checkpoint)
    tiny.processor.save_pretrained(checkpoint)
    easy = find_prompt("easyr1-think-boxed")
    (in_folder / "run" / "run.json").write_text(json.dumps({"data": {"prompt": easy.about()}}))
    Image.new("RGB", (32, 32), "red").save(in_folder / "red.png")
    row = {"problem": "<image> 1 + 1?", "images": ["red.png"], "answer": 2, "id": "q"}
    (in_folder / "rows.jsonl").write_text(json.dumps(row))
    (in_folder / "inner").mkdir()
    (in_folder / "inner" / "rows.jsonl").write_text(json.dumps({**row, "images": ["../red.png"]}))
    command = ["--model", "run/checkpoint", "--data", "inner/rows.jsonl", "--n", "1"]
    command += ["--max_new_tokens", "3", "--threads", "1"]
    assert "(--allow-outside-root)" in refused(capsys, *command)
    assert main(["eval", *command, "--allow-outside-root"]) == 0
    folder = in_folder / "runs" / "eval-rows"
    (line,) = (folder / "samples.jsonl").read_text().splitlines()
    assert "You FIRST think" in json.loads(line)["prompt"] and json.loads(line)["gold"] == "2"
    assert json.loads((folder / "run.json").read_text())["model"]["dtype"] == "float32"


def test_the_prompt_that_a_model_was_trained_with(in_folder):
    frozen = load_protocol("geo3k")
    (in_folder / "run").mkdir()
    run = in_folder / "run" / "run.json"
    place = str(in_folder / "run" / "checkpoint")
    assert trained_prompt(place) is None
    assert choose_prompt(place, None, None)[0].name == "think-boxed"
    easy = find_prompt("easyr1-think-boxed")
    for content, name in [
        ({"task": "digits", "model": "tiny"}, "none"),
        ({"task": "digits", "model": "org/large"}, "think-boxed"),
        ({"data": {"prompt": easy.about()}}, easy.name),
    ]:
        run.write_text(json.dumps(content))
        found = trained_prompt(place)
        assert found is not None and found.name == name
        assert choose_prompt(place, None, None)[0] == found
    run.write_text(json.dumps({"task": "digits", "model": "org/large"}))
    assert choose_prompt(place, None, frozen)[0].name == "think-boxed"
    run.write_text(json.dumps({"data": {"prompt": easy.about()}}))
    with pytest.raises(ValueError, match="--prompt easyr1-think-boxed or --prompt think-boxed"):
        choose_prompt(place, None, frozen)
    assert choose_prompt(place, "letter", frozen) == (find_prompt("letter"), easy)
    run.write_text('{"data": {}}')
    with pytest.raises(ValueError, match=r"run.json cannot be read: KeyError\('prompt'\)"):
        trained_prompt(place)
