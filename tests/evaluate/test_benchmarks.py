"""The frozen benchmarks, on small look-alikes of the data sets in both of their layouts."""

import json
import zipfile
from dataclasses import replace
from pydoc import locate

import pytest
import yaml
from datasets import Dataset
from PIL import Image

from sightline.evaluate import lmms_tasks
from sightline.evaluate.frozen_rows import load_frozen, question_of
from sightline.evaluate.protocol import FOLDER, known_benchmarks, load_protocol
from sightline.prompts import PROMPTS, find_prompt
from sightline.rewards import THINK_BOXED

PGPO = "geo3k mmk12 mathverse dynamath mathvision logicvista mmmu_pro mathverse_v".split()
VPPO = "mathverse dynamath mmk12 geo3k mathvision wemath logicvista mmmu_pro".split()
ANSWERS = ["3.5", "B", "\\sqrt{2}"]


def look_alike(root, source, instruction=f"\n\n{THINK_BOXED}", answers=ANSWERS):
    """Three rows, laid out as the data set is."""
    name = "AI4Math_MathVerse"
    pictures = root / "data" / "images" / name
    pictures.mkdir(parents=True)
    records = []
    for number, answer in enumerate(answers):
        Image.new("RGB", (40, 30 + number), (80 * number, 0, 0)).save(pictures / f"{number}.png")
        records.append(
            {
                "messages": [
                    {"role": "user", "content": f"<image>What is x_{number}?{instruction}"},
                    {"role": "assistant", "content": answer},
                ],
                "images": [f"./data/images/{name}/{number}.png"],
            }
        )
    file = root / source.file
    file.parent.mkdir(parents=True, exist_ok=True)
    if source.images.endswith(".zip"):
        with zipfile.ZipFile(root / source.images, "w") as archive:
            for path in sorted(pictures.iterdir()):
                archive.write(path, f"{name}/{path.name}")
                path.unlink()
        Dataset.from_list(records).to_parquet(file)
    else:
        file.write_text(json.dumps(records))
    return root


def local(protocol, root, **changes):
    source = replace(protocol.source, dataset=str(root))
    return replace(protocol, source=source, rows=3, **changes)


@pytest.mark.parametrize("name", known_benchmarks())
def test_a_benchmark_is_frozen_as_the_papers_say(name):
    protocol = load_protocol(name)
    assert protocol.name == name
    assert (protocol.decoding.n, protocol.decoding.max_new_tokens) == (8, 2048)
    assert protocol.decoding.temperature == protocol.decoding.top_p == 1.0
    assert PROMPTS[protocol.prompt["name"]].text("q") == f"q\n\n{THINK_BOXED}"
    assert protocol.extractor["name"] == PROMPTS[protocol.prompt["name"]].extractor
    assert ("PGPO" in protocol.papers, "VPPO" in protocol.papers) == (name in PGPO, name in VPPO)
    json.dumps(protocol.about())
    source = protocol.source
    if source.dataset == "PAPO-Galaxy/PAPO_eval":  # whose files are named by their splits
        assert source.subset == "default"
        assert source.file == f"data/{source.split}-00000-of-00001.parquet"
    else:
        assert (source.subset, source.split) == (None, None)


def test_all_benchmarks_of_the_papers_are_there():
    assert set(known_benchmarks()) == {*PGPO, *VPPO} and len(PGPO) == len(VPPO) == 8


@pytest.mark.parametrize("name", ["mathverse", "dynamath"])
def test_rows_are_asked_in_the_words_of_the_papers(name, tmp_path, capsys):
    protocol = load_protocol(name)
    protocol = local(protocol, look_alike(tmp_path, protocol.source))
    prompt = find_prompt("think-boxed")
    for _ in range(2):  # from an archive, and from what was unpacked
        rows, revision, without = load_frozen(protocol, prompt)
        assert revision is None and without == 0 and len(rows) == 3
        for number, row in enumerate(rows.dataset):
            assert row["id"] == f"{name}-{number:05d}" and row["answer"] == ANSWERS[number]
            assert row["images"][0].getpixel((5, 5)) == (80 * number, 0, 0)
            image, text = row["prompt"][0]["content"]
            assert image["type"] == "image"
            # the instruction that was in the row is there once
            assert text["text"] == f"What is x_{number}?\n\n{THINK_BOXED}"
    kept = replace(protocol, row_ids=[f"{name}-00002"])
    assert load_frozen(kept, prompt).rows.dataset["id"] == [f"{name}-00002"]
    with pytest.raises(ValueError, match="some row_ids"):
        load_frozen(replace(protocol, row_ids=["elsewhere-1"]), prompt)


def test_downloads_that_are_links_are_followed(tmp_path, monkeypatch, capsys):
    # as the Hub's cache has it: snapshots/commit/file -> blobs/hash
    protocol = load_protocol("mathvision")
    folder = look_alike(tmp_path / "set" / "snapshots" / "c0ffee", protocol.source)
    blobs = tmp_path / "set" / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    asked = {}

    def snapshot_download(repo, **settings):
        asked[repo] = settings
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    rows, revision, _ = load_frozen(replace(protocol, rows=3), find_prompt("none"))
    assert revision == "c0ffee" and rows.dataset[1]["images"][0].size == (40, 31)
    wanted = asked["chamber111/VPPO-Eval"]
    assert wanted["repo_type"] == "dataset" and wanted["revision"] is None
    assert wanted["allow_patterns"][0] == "data/vppo/MathLLMs_MathVision.json"


def test_without_a_network_the_data_set_is_named():
    with pytest.raises(OSError, match=r"PAPO-Galaxy/PAPO_eval can be read neither from the Hub"):
        load_frozen(load_protocol("geo3k"), find_prompt("none"))


def test_rows_that_are_not_the_frozen_ones_are_refused(tmp_path, capsys):
    protocol = load_protocol("dynamath")
    root = look_alike(tmp_path / "a", protocol.source)
    prompt = find_prompt("none")
    with pytest.raises(ValueError, match=r"has 4 rows, and .* holds 3 in data/vppo/DynaMath"):
        load_frozen(replace(local(protocol, root), rows=4), prompt)
    (root / protocol.source.file).write_text('{"a": 1}')
    with pytest.raises(ValueError, match="must hold a list of rows, got dict"):
        load_frozen(local(protocol, root), prompt)
    (root / protocol.source.file).unlink()
    with pytest.raises(FileNotFoundError, match="not laid out as was frozen"):
        load_frozen(local(protocol, root), prompt)
    protocol = load_protocol("geo3k")
    root = look_alike(tmp_path / "b", protocol.source)
    (root / protocol.source.images).write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        load_frozen(local(protocol, root), prompt)
    (root / protocol.source.images).unlink()
    with pytest.raises(FileNotFoundError, match=r"_images.zip is missing"):
        load_frozen(local(protocol, root), prompt)
    with pytest.raises(ValueError, match=r"row 'x': messages must be .*\['user'\]"):
        question_of({"messages": [{"role": "user", "content": "?"}]}, "x")


def test_a_question_without_the_instruction_is_counted(tmp_path, capsys):
    protocol = load_protocol("dynamath")
    root = look_alike(tmp_path, protocol.source, instruction="")
    rows, _, without = load_frozen(local(protocol, root), find_prompt("none"))
    assert without == 3
    assert rows.dataset[0]["prompt"][0]["content"][1]["text"] == "What is x_0?"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"extractor": {"name": "boxed-last", "version": 2}}, "frozen with extractor .*2"),
        ({"prompt": {"name": "think-boxed", "version": 7}}, "frozen with prompt .*7"),
        ({"golds": 0}, "frozen with golds 0, and this version of Sightline has 2"),
        ({"decoding": {"n": 0}}, "n must be at least 1, got 0"),
        ({"decoding": {"top_p": 0.0}}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"decoding": {"temperature": -1.0}}, "temperature must be at least 0"),
        ({"decoding": {"temperature": 0.0}}, "all responses are the same: n must be 1, got 8"),
        ({"colour": "red"}, "is no protocol with name, title.*colour"),
    ],
)
def test_a_protocol_of_another_version_is_refused(tmp_path, change, sentence):
    content = yaml.safe_load((FOLDER / "geo3k.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(ValueError, match=sentence):
        load_protocol(str(tmp_path / "mine.yaml"))


def test_an_unknown_benchmark_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown benchmark 'geo4k'; known: dynamath, geo3k, log"):
        load_protocol("geo4k")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ValueError, match=r"is no protocol .* it holds list, not a mapping"):
        load_protocol(str(tmp_path / "list.yaml"))


@pytest.mark.parametrize("name", known_benchmarks())
def test_the_tasks_of_lmms_eval_are_the_frozen_benchmarks(name):
    # lmms-eval's own loader reads a function's name after this tag
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: locate(node.value))
    folder = FOLDER.parent / "lmms_eval"
    task = yaml.load((folder / f"sightline_{name}.yaml").read_text(), Loader)
    task = yaml.load((folder / task.pop("include")).read_text(), Loader) | task
    protocol, source = load_protocol(name), load_protocol(name).source
    assert task["task"] == f"sightline_{name}"
    assert task["dataset_path"] == ("parquet" if source.file.endswith("parquet") else "json")
    url = f"hf://datasets/{source.dataset}/{source.file}"
    assert task["dataset_kwargs"] == {"data_files": {task["test_split"]: url}}
    assert task["lmms_eval_specific_kwargs"] == {"default": {"benchmark": name}}
    assert task["repeats"] == protocol.decoding.n
    assert task["generation_kwargs"] == {
        "do_sample": True,
        "temperature": protocol.decoding.temperature,
        "top_p": protocol.decoding.top_p,
        "max_new_tokens": protocol.decoding.max_new_tokens,
        "until": [],
    }
    for role in ("doc_to_visual", "doc_to_text", "doc_to_target", "process_results"):
        assert task[role] is getattr(lmms_tasks, role)


def test_lmms_eval_asks_and_judges_as_we_do(tmp_path):
    protocol = load_protocol("mathverse")
    look_alike(tmp_path / "copy", protocol.source)
    content = {**protocol.about(), "rows": 3}
    content["source"]["dataset"] = str(tmp_path / "copy")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    told = {"benchmark": str(tmp_path / "mine.yaml")}
    doc = Dataset.from_parquet(str(tmp_path / "copy" / protocol.source.file))[1]
    assert lmms_tasks.doc_to_text(doc, told) == f"What is x_1?\n\n{THINK_BOXED}"
    assert lmms_tasks.doc_to_target(doc) == "B"
    (picture,) = lmms_tasks.doc_to_visual(doc, told)
    assert picture.size == (40, 31) and picture.getpixel((5, 5)) == (80, 0, 0)
    judge = lmms_tasks.process_results
    assert judge(doc, ["\\boxed{B}"]) == {"accuracy": 1.0, "not_judged": 0.0}
    assert judge(doc, [["\\boxed{B}", "\\boxed{C}"]]) == {"accuracy": 0.5, "not_judged": 0.0}
    # a gold that cannot be read is not the model's fault
    doc["messages"][1]["content"] = " "
    assert judge(doc, ["\\boxed{B}"]) == {"accuracy": 0.0, "not_judged": 1.0}
