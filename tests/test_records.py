"""The files of a run folder: whole, complete, and never somebody else's."""

import json

import pytest
import torch
from PIL import Image

from sightline import ViewScores, sampled_kl
from sightline.encoding import encode
from sightline.records import (
    append_lines,
    default_folder,
    keep_lines,
    new_run_folder,
    question,
    save_images,
    save_thumbnail,
    token_records,
    write_json,
)
from sightline.tasks import digits
from sightline.token_labels import token_texts


def test_a_folder_that_holds_anything_is_refused(tmp_path):
    folder = new_run_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert new_run_folder(folder) == folder  # still empty
    (folder / "x").touch()
    with pytest.raises(FileExistsError, match="belongs to another run"):
        new_run_folder(folder)
    with pytest.raises(FileExistsError):
        new_run_folder(folder / "x")


def test_the_default_folder_is_the_first_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/x", "runs/x-2", "runs/x-3"):
        assert str(default_folder("x")) == expected
        folder = default_folder("x")
        folder.mkdir(parents=True)
        assert default_folder("x") == folder  # an empty one, of a request that failed
        (folder / "run.json").touch()


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_lines_hold_no_nan(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_lines(path, [{"a": float("nan"), "b": [1.0, float("inf")]}])
    append_lines(path, [{"c": "né"}])
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"a": None, "b": [1.0, None]},
        {"c": "né"},
    ]


def test_images_are_saved_once_under_a_harmless_name_of_their_own(tmp_path):
    row, other = digits.rows(2)
    row["id"] = "../../etc/x"
    saved = save_images(tmp_path, row)
    assert saved == save_images(tmp_path, row)
    assert saved[0].startswith("images/.._.._etc_x-") and (tmp_path / saved[0]).is_file()
    # another picture under the same id, and in the column `image`, is not mistaken for it
    again = save_images(tmp_path, {"id": row["id"], "image": other["images"][0]})
    assert again != saved and len(list((tmp_path / "images").iterdir())) == 2


def test_records_line_up_with_their_tokens(tiny):
    rows = digits.rows(2)
    rows[1]["images"] = []
    responses = encode(tiny.processor, rows, [" three", " four five six"])
    ratio = torch.linspace(-1, 1, 8).view(2, 4)
    weights = torch.arange(8.0).view(2, 4)
    records = token_records(
        tiny.processor.tokenizer,
        rows,
        responses,
        {"blind": ViewScores(ratio, ratio.abs())},
        weights,
        split=["a", "b"],
    )

    first, second = records
    assert first["tokens"] == [" three", "<|im_end|>"]
    assert first["response"] == " three"
    assert first["views"]["blind"]["log_ratio"] == ratio[0, :2].tolist()
    assert first["views"]["blind"]["kl"] == ratio[0, :2].abs().tolist()
    assert first["dependency"] == sampled_kl(ratio[0, :2]).tolist()
    assert first["weights"] == [0, 1]
    assert (first["split"], first["gold"]) == ("a", rows[0]["answer"])
    # no image: not applicable, which is not 0
    assert second["views"] == {} and "dependency" not in second
    assert second["weights"] == [4, 5, 6, 7]


def test_a_prompt_is_read_whatever_its_form():
    parts = [{"type": "image"}, {"type": "text", "text": "b"}]
    assert question("a") == "a"
    assert question([{"role": "system", "content": "a"}, {"role": "user", "content": parts}]) == (
        "a\n<image>b"
    )
    parts = [{"type": "text", "text": "is "}, *parts, {"type": "image"}]
    assert question([{"role": "user", "content": parts}]) == "is <image>b<image>"


def test_token_texts_add_up_to_the_response_for_any_unicode(tiny):
    tokenizer = tiny.processor.tokenizer
    for text in ("three 🙂 漢字 é", "a\u0301\u200f b", "\\boxed{1}\n\n"):
        ids = tokenizer(text)["input_ids"]
        texts = token_texts(tokenizer, ids)
        assert len(texts) == len(ids)
        assert "".join(texts) == tokenizer.decode(ids)


def test_lines_are_kept_whole_whatever_a_response_holds(tmp_path):
    # the separators that str.splitlines knows and JSON leaves as they are; a last line cut off
    odd = [
        {"step": step, "response": f"a{mark}b"} for step, mark in enumerate("\u2028\u2029\x85\x1c")
    ]
    append_lines(tmp_path / "lines", odd)
    with (tmp_path / "lines").open("a") as file:
        file.write('{"step": 0, "resp')
    keep_lines(tmp_path / "lines", lambda line: line["step"] < 3)
    text = (tmp_path / "lines").read_text()
    assert [json.loads(line) for line in text.split("\n")[:-1]] == odd[:3]
    keep_lines(tmp_path / "none", lambda line: True)
    assert not (tmp_path / "none").exists()


def test_thumbnails_are_small_and_tiny_ones_exact(tmp_path):
    noise = Image.effect_noise((800, 400), 100).convert("RGB")
    saved = tmp_path / save_thumbnail(tmp_path, "a", noise)
    with Image.open(saved) as small:
        assert small.size == (320, 160) and saved.stat().st_size < 60_000
    tiny = noise.crop((0, 0, 64, 20))
    with Image.open(tmp_path / save_thumbnail(tmp_path, "a", tiny)) as exact:
        assert exact.tobytes() == tiny.tobytes()
    assert noise.size == (800, 400)  # the picture itself is left alone
