"""Rows from everywhere, in one form; every one of them used or listed with a reason."""

import csv
import io
import json
import pickle
import random
import sys

import datasets
import numpy as np
import pytest
from damaged_pictures import fuzzed, saved
from PIL import Image
from torch.utils.data import DataLoader

from sightline.data import Limits, check_images, load_rows, tables
from sightline.encoding import pictures_of
from sightline.prompts import PROMPTS, find_prompt

QUESTION = "<image>Wie groß ist der Winkel? 角度は? 🙂 عدد"


@pytest.fixture
def folder(tmp_path):
    """Two pictures, red and blue."""
    Image.new("RGB", (4, 2), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGB", (2, 4), (0, 0, 255)).save(tmp_path / "blue.png")
    return tmp_path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def easyr1_rows():
    return [
        {"problem": QUESTION, "images": ["red.png"], "answer": "90", "level": 1},
        {"problem": "1+1?", "images": [], "answer": "2", "level": 2},
        {"problem": "<image> or <image>?", "images": ["red.png", "blue.png"], "answer": "B"},
        {"problem": "1+2?", "images": None, "answer": "3", "level": None},
    ]


def write_lines(file, rows):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return file


def as_bytes(folder, rows):
    """The rows with their images in them, as the Hub's viewer and EasyR1 store them."""
    return [
        {
            **row,
            "images": [
                {"bytes": (folder / n).read_bytes(), "path": n} for n in row["images"] or []
            ],
        }
        for row in rows
    ]


def colours(row):
    return [picture.getpixel((0, 0)) for picture in row["images"]]


def same_as_easyr1(rows):
    assert len(rows) == rows.rows_in == 4 and not rows.bad
    assert rows.images == {0: 2, 1: 1, 2: 1}
    found = list(rows.dataset)
    assert [row["answer"] for row in found] == ["90", "2", "B", "3"]
    assert [colours(row) for row in found] == [[(255, 0, 0)], [], [(255, 0, 0), (0, 0, 255)], []]
    assert found[0]["prompt"] == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION[7:]}]}
    ]
    assert found[1]["prompt"] == [{"role": "user", "content": "1+1?"}]
    assert [row["level"] for row in found] == [1, 2, None, None]
    assert all(len(pictures_of(row)) == len(row["images"]) for row in found)
    return [row["id"] for row in found]


def test_every_kind_of_file_gives_the_same_rows(folder, capsys):
    rows = easyr1_rows()
    stored = as_bytes(folder, rows)
    features = datasets.Features(
        {
            "problem": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
            "answer": datasets.Value("string"),
            "level": datasets.Value("int64"),
        }
    )
    full = [{"level": None, **row} for row in stored]
    table = datasets.Dataset.from_list(full, features=features)
    table.to_parquet(folder / "rows.parquet")
    table.save_to_disk(folder / "saved")
    datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(folder / "dict")
    write_lines(folder / "rows.jsonl", rows)
    (folder / "rows.json").write_text(json.dumps(rows), "utf-8")
    sources = ["rows.parquet", "saved", "dict", "rows.jsonl", "rows.json"]
    found = {name: load_rows(folder / name) for name in sources}
    found |= {"data": load_rows(table), "list": load_rows(rows, root=folder)}
    found["bytes"] = load_rows(stored)
    ids = {name: same_as_easyr1(loaded) for name, loaded in found.items()}
    assert ids["rows.jsonl"] == ids["rows.json"] == ids["list"]
    assert ids["rows.parquet"] == ids["saved"] == ids["dict"] == ids["data"] == ids["bytes"]
    # the bytes of an image count, not where they stand: what differs is the id, made of the path
    assert len({loaded.fingerprint() for loaded in found.values()}) == 2
    assert "dict@train: 4 rows used" in capsys.readouterr().out


def test_what_was_taken_for_what_is_said(folder, capsys):
    rows = [{"problem": "<image>x?", "image": "red.png", "solution": 3, "qid": 5, "messages": "m"}]
    loaded = load_rows(rows, root=folder, prompt=PROMPTS["letter"])
    assert capsys.readouterr().out == (
        "data: the list of rows: 1 rows used, 0 listed as bad; 0 without an image, 0 with several; "
        "prompt ← problem, images ← image, answer ← solution, id ← qid; left out: messages; "
        "prompt format letter\n"
    )
    (row,) = loaded.dataset
    # the columns of the data stay beside ours: TRL's accuracy_reward wants `solution`
    assert set(row) == {"id", "prompt", "images", "answer", "problem", "solution", "qid"}
    assert (row["id"], row["answer"], row["solution"]) == ("5", "3", 3)
    assert row["prompt"][0]["content"][1]["text"].endswith("alone on the last line.")
    about = loaded.about()
    assert about["rows"] == {"in": 1, "used": 1, "bad": 0}
    assert about["prompt"]["name"] == "letter" and about["fingerprint"] == loaded.fingerprint()
    json.dumps(about)


def test_other_processes_are_silent(folder, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    load_rows(easyr1_rows(), root=folder)
    assert capsys.readouterr().out == ""


def test_a_hub_id_is_loaded_with_its_split(folder, monkeypatch):
    # as hiyouga/geometry3k is: columns images, problem, answer, and splits train, validation, test
    features = datasets.Features(
        {
            "images": datasets.List(datasets.Image()),
            "problem": datasets.Value("string"),
            "answer": datasets.Value("string"),
        }
    )
    rows = [{k: row[k] for k in features} for row in as_bytes(folder, easyr1_rows())]
    table = datasets.Dataset.from_list(rows, features=features)
    splits = datasets.DatasetDict({"train": table, "test": table.select([0])})
    asked = []

    def load_dataset(name, split=None):
        asked.append((name, split))
        return splits[split] if split else splits

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    loaded = load_rows("hiyouga/geometry3k@test")
    assert (loaded.source, len(loaded)) == ("hiyouga/geometry3k@test", 1)
    assert colours(loaded.dataset[0]) == [(255, 0, 0)]
    loaded = load_rows("hiyouga/geometry3k")
    assert (loaded.source, len(loaded)) == ("hiyouga/geometry3k@train", 4)
    assert len(load_rows("hiyouga/geometry3k", split="test")) == 1
    assert asked == [("hiyouga/geometry3k", split) for split in ("test", None, "test")]
    with pytest.raises(ValueError, match="split 'test', and split='train' another"):
        load_rows("hiyouga/geometry3k@test", split="train")
    for missing in ("gone.jsonl", "./gone", "gone", "a/b/c", "data/gone.parquet"):
        with pytest.raises(FileNotFoundError, match="no data at"):
            load_rows(missing)
    splits.pop("train")
    splits["other"] = table
    with pytest.raises(ValueError, match=r"several splits: choose one of \['other', 'test'\]"):
        load_rows("hiyouga/geometry3k")


def test_rows_as_virl39k_has_them(folder):
    # columns as on its page: golds in a box, one path or several in `image`, own ids
    rows = [
        {"qid": "MMK12-1", "question": "<image>\nFind x.", "answer": "\\boxed{7}",
         "image": ["red.png"], "category": "Math", "source": "MMK12", "PassRate_32BTrained": 0.5},
        {"qid": "MMK12-2", "question": "2+2?", "answer": "\\boxed{4}", "image": [],
         "category": "Math", "source": "MMK12", "PassRate_32BTrained": 1},
    ]  # fmt: skip
    write_lines(folder / "39Krelease.jsonl", rows)
    first, second = load_rows(folder / "39Krelease.jsonl").dataset
    assert (first["id"], first["answer"], first["PassRate_32BTrained"]) == (
        "MMK12-1",
        "\\boxed{7}",
        0.5,
    )
    assert colours(first) == [(255, 0, 0)] and second["images"] == []


def test_folders(folder):
    rows = easyr1_rows()
    data = folder / "set"
    data.mkdir()
    for name in ("red.png", "blue.png"):
        (data / name).write_bytes((folder / name).read_bytes())
    write_lines(data / "train-00000-of-00002.jsonl", rows[:1])
    write_lines(data / "train-00001-of-00002.jsonl", rows[1:])
    write_lines(data / "test.jsonl", rows[:1])
    same_as_easyr1(load_rows(data))
    assert len(load_rows(f"{data}@test")) == len(load_rows(data, split="test")) == 1
    with pytest.raises(ValueError, match=r"no split 'dev': choose one of \['test', 'train'\]"):
        load_rows(data, split="dev")
    (data / "train.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="several kinds of files"):
        load_rows(data)
    with pytest.raises(ValueError, match="holds no data"):
        load_rows(folder)
    with pytest.raises(ValueError, match="one file, which has no split 'x'"):
        load_rows(f"{data / 'test.jsonl'}@x")
    # an imagefolder: its metadata names a file per row
    held = folder / "pictures" / "train"
    held.mkdir(parents=True)
    (held / "a.png").write_bytes((folder / "red.png").read_bytes())
    write_lines(held / "metadata.jsonl", [{"file_name": "a.png", "question": "x?", "answer": "1"}])
    for source, split in ((held, None), (held.parent, None), (held.parent, "train")):
        assert colours(load_rows(source, split=split).dataset[0]) == [(255, 0, 0)]


def test_tables(folder):
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["problem", "images", "answer"])
        writer.writerow([QUESTION, "red.png", "90"])
        writer.writerow(["two,\nlines?", "", "[2]"])
        writer.writerow(["<image><image>?", '["red.png", "blue.png"]', "B"])
        writer.writerow(["[what?", "", "x"])
    found = list(load_rows(folder / "rows.csv", bad_rows="skip-and-list", folder=folder).dataset)
    assert [len(row["images"]) for row in found] == [1, 2, 0]
    assert found[2]["prompt"][0]["content"] == "[what?"
    (bad,) = map(json.loads, (folder / "bad_rows.jsonl").read_text().splitlines())
    assert (
        bad["place"] == "rows.csv:4"
        and bad["reason"] == "its answer must be text or a number, got list"
    )


def test_rows_that_differ_in_kind_keep_their_columns(folder):
    rows = easyr1_rows()
    extras = [{"a": 1}, "text", None, 7]
    mixed = ["text", 7, None, True]
    for row, extra, value in zip(rows, extras, mixed, strict=True):
        row |= {"extra": extra, "mixed": value, "tags": [extra], "when": np.float64(0.5)}
    found = list(load_rows(rows, root=folder).dataset)
    assert [row["extra"] for row in found] == extras
    assert [row["mixed"] for row in found] == mixed
    assert [row["tags"] for row in found] == [[extra] for extra in extras]
    assert [row["when"] for row in found] == [0.5] * 4
    # numbers that Arrow's integers do not hold come back as text
    big = [{"problem": "x", "answer": "1", "seed": 2**63 - 1 + more} for more in (0, 1)]
    assert [row["seed"] for row in load_rows(big[:1]).dataset] == [2**63 - 1]
    assert [int(row["seed"]) for row in load_rows(big).dataset] == [2**63 - 1, 2**63]


def bad_lines(folder):
    """A file of which three rows can be used."""
    good = easyr1_rows()[:2]
    lines = [
        json.dumps(good[0]),
        "",
        '{"problem": "cut',
        "[1, 2]",
        json.dumps(
            {"problem": "<image>x", "images": ["red.png", "blue.png"], "answer": "1", "id": "n"}
        ),
        json.dumps({"problem": "x", "images": ["gone.png"], "answer": "1"}),
        json.dumps({"problem": "x", "images": ["../red.png"], "answer": "1", "id": "up"}),
        json.dumps({"problem": "x", "images": [None], "answer": "1"}),
        json.dumps({"problem": "x", "images": [], "answer": None}),
        json.dumps({"problem": "x\ud800", "images": [], "answer": "1"}),
        json.dumps({"problem": "x", "images": ["cut.png"], "answer": "1", "id": "cut"}),
        json.dumps({"problem": "x", "answer": "1", "id": "same"}),
        json.dumps({"problem": "y", "answer": "1", "id": "same"}),
        json.dumps(good[1]),
    ]
    whole = (folder / "red.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:-30])
    (folder / "rows.jsonl").write_bytes("\ufeff".encode() + "\n".join(lines).encode() + b"\n\xff{}")
    return folder / "rows.jsonl"


def test_every_row_is_used_or_listed(folder, capsys):
    file = bad_lines(folder)
    loaded = load_rows(file, bad_rows="skip-and-list", folder=folder)
    assert (loaded.rows_in, len(loaded), len(loaded.bad)) == (14, 3, 11)
    assert "3 rows used, 11 listed as bad" in capsys.readouterr().out
    listed = [json.loads(line) for line in (folder / "bad_rows.jsonl").read_text().splitlines()]
    assert [(row["id"], row["place"], row["image"]) for row in listed] == [
        ("rows.jsonl:3", "rows.jsonl:3", ""),
        ("rows.jsonl:4", "rows.jsonl:4", ""),
        ("n", "rows.jsonl:5", ""),
        ("rows.jsonl:6", "rows.jsonl:6", "gone.png"),
        ("up", "rows.jsonl:7", "../red.png"),
        ("rows.jsonl:8", "rows.jsonl:8", "nothing"),
        ("rows.jsonl:9", "rows.jsonl:9", ""),
        ("rows.jsonl:10", "rows.jsonl:10", ""),
        ("cut", "rows.jsonl:11", "cut.png"),
        ("same", "rows.jsonl:13", ""),
        ("rows.jsonl:15", "rows.jsonl:15", ""),
    ]
    # fmt: off
    words = ["not JSON", "got list", "1 <image>, the row 2 images", "no such file",
             "leaves the folder", "is nothing (null)", "got nothing", "surrogate",
             "cannot be decoded", "another row", "not JSON: UnicodeDecodeError"]
    # fmt: on
    for row, word in zip(listed, words, strict=True):
        assert word in row["reason"]
    # a pure function of the data: what every process decides alike
    again = load_rows(file, bad_rows="skip-and-list", folder=folder)
    assert again.bad == loaded.bad and again.fingerprint() == loaded.fingerprint()
    assert not list(folder.glob("*.tmp"))


def test_nothing_and_half_characters_are_named_with_what_to_do(folder):
    said = "one of its images is nothing (null): give a picture in its place, or take it out"
    rows = [{"id": "n", "problem": "x", "images": ["red.png", None], "answer": "1"}]
    rows.append({"id": "e", "problem": "x", "images": [""], "answer": "1"})
    rows.append({"id": "s", "problem": "x", "answer": "1", "note": ["a\udc00"]})
    with pytest.raises(ValueError) as error:
        load_rows(rows, root=folder)
    first, empty, half = str(error.value).splitlines()[1:4]
    assert first.startswith(f"  row 'n' (row 0), image 'nothing': {said}")
    assert empty.startswith("  row 'e' (row 1): one of its images is nothing (''): give a picture")
    assert "its column 'note' holds '\\udc00', half of a surrogate pair" in half
    # what the message proposes works
    mended = "a\ud83d\ude00\udc00".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert mended == "a\U0001f600\ufffd"


def test_paths_may_lead_out_of_the_folder_where_that_is_allowed(folder):
    inner = folder / "inner"
    inner.mkdir()
    row = {"problem": "x", "images": ["../red.png"], "answer": "1"}
    (inner / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=r"leaves the folder .*\(--allow-outside-root\)"):
        load_rows(inner / "rows.jsonl")
    (loaded,) = load_rows(inner / "rows.jsonl", allow_outside_root=True).dataset
    assert colours(loaded) == [(255, 0, 0)]


def test_by_default_bad_rows_stop_it_and_are_named(folder):
    file = bad_lines(folder)
    with pytest.raises(ValueError) as error:
        load_rows(file)
    text = str(error.value)
    assert text.startswith(
        "10 of 14 rows of rows.jsonl cannot be used:\n"
    )  # undecoded: cut.png is not known
    assert "  row 'up' (rows.jsonl:7), image '../red.png': its path leaves the folder" in text
    assert "bad_rows='skip-and-list'" in text
    with pytest.raises(ValueError, match=r"11 of 14.*\n(.*\n)*.*row 'cut'.*image 'cut.png'"):
        load_rows(file, decode_all=True, folder=folder)
    assert len((folder / "bad_rows.jsonl").read_text().splitlines()) == 11
    many = [{"problem": "x", "answer": None}] * 30
    with pytest.raises(ValueError) as error:
        load_rows(many)
    assert str(error.value).count("row 'row") == 20 and "… and 10 more" in str(error.value)
    # all of them bad is no data, whatever the policy
    with pytest.raises(ValueError, match="30 of 30"):
        load_rows(many, bad_rows="skip-and-list", folder=folder)


def test_a_picture_that_fails_later_is_named_with_its_row(folder):
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:-30])
    rows = [
        *easyr1_rows()[:2],
        {"problem": "x", "images": ["cut.png"], "answer": "1", "id": "torn"},
    ]
    loaded = load_rows(rows, root=folder)
    assert loaded.dataset[0]["images"] and len(loaded) == 3
    with pytest.raises(ValueError, match=r"row 'torn', image 'cut.png': it cannot be"):
        loaded.dataset[2]
    (bad,) = check_images(loaded)
    assert (bad.id, bad.image, bad.place) == ("torn", "cut.png", "row 2 of those used")
    with pytest.raises(ValueError, match=r"'torn' \(row 2\), image 'cut.png'"):
        load_rows(rows, root=folder, decode_all=True)
    assert check_images(load_rows(rows[:2], root=folder)) == []


def test_nothing_is_decoded_before_it_is_needed_and_nothing_twice(folder, monkeypatch):
    decoded = []

    def counting(cell, limits):
        decoded.append(cell["path"])
        return decode(cell, limits)

    decode = tables.decode
    monkeypatch.setattr(tables, "decode", counting)
    loaded = load_rows(easyr1_rows(), root=folder)
    loaded.fingerprint()
    assert list(loaded.dataset.select_columns("answer")) == [
        {"answer": answer} for answer in ("90", "2", "B", "3")
    ]
    assert decoded == []
    # as TRL's sampler asks: each row for its group, and the batch again for the next update
    order = [0, 0, 2, 2] * 3
    loader = DataLoader(loaded.dataset, batch_size=4, sampler=order, collate_fn=list)
    batches = list(loader)
    assert [row["answer"] for row in batches[2]] == ["90", "90", "B", "B"]
    assert [len(row["images"]) for row in batches[2]] == [1, 1, 2, 2]
    assert sorted(decoded) == ["blue.png", "red.png"]  # T63
    loaded.dataset[1]  # another batch, after which nothing is kept
    assert colours(loaded.dataset[0]) == [(255, 0, 0)] and len(decoded) == 3


def test_rows_travel_to_workers(folder):
    loaded = load_rows(easyr1_rows(), root=folder)
    used = tables.DecodeOnAccess(Limits(folder))
    used({"images": [["red.png"]]})
    assert used._last and not pickle.loads(pickle.dumps(used))._last  # pictures stay behind
    copy = pickle.loads(pickle.dumps(loaded.dataset))
    assert colours(copy[2]) == [(255, 0, 0), (0, 0, 255)]
    loader = DataLoader(loaded.dataset, batch_size=2, num_workers=2, collate_fn=list)
    ids = [row["id"] for batch in loader for row in batch]
    assert ids == list(loaded.dataset["id"])


def test_a_data_set_is_not_copied_and_may_be_shuffled(folder):
    rows = as_bytes(folder, easyr1_rows())
    table = datasets.Dataset.from_list(rows).select([3, 2, 1, 0])
    loaded = load_rows(table)
    assert [row["answer"] for row in loaded.dataset] == ["3", "B", "2", "90"]
    assert table.column_names == ["problem", "images", "answer", "level"]
    # text only: TRL looks for the column all the same
    loaded = load_rows(table.select([0, 2]).remove_columns("images"))
    assert [row["images"] for row in loaded.dataset] == [[], []]
    bad = datasets.Dataset.from_list([*rows, {**rows[0], "answer": None}])
    loaded = load_rows(bad, bad_rows="skip-and-list", folder=folder)
    assert (len(loaded), loaded.rows_in) == (4, 5) and len(loaded.dataset) == 4
    assert loaded.bad[0].place == "the data set:4"
    with pytest.raises(ValueError, match="has a transform"):
        load_rows(table.with_transform(lambda batch: batch))
    with pytest.raises(ValueError, match=r"got IterableDataset"):
        load_rows(table.to_iterable_dataset())


def test_a_single_image_column_with_nothing_in_it(folder):
    data = (folder / "red.png").read_bytes()
    rows = [{"question": "x?", "image": {"bytes": data, "path": None}, "answer": "1"},
            {"question": "y?", "image": None, "answer": "2"}]  # fmt: skip
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "image": datasets.Image(),
            "answer": datasets.Value("string"),
        }
    )
    for source in (rows, datasets.Dataset.from_list(rows, features=features)):
        loaded = load_rows(source)
        assert [colours(row) for row in loaded.dataset] == [[(255, 0, 0)], []]
        assert "image" not in loaded.dataset[0]
        assert loaded.images == {0: 1, 1: 1}


def test_pictures_in_lists_of_rows_are_kept_as_they_are(folder):
    noise = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    wide = Image.open(io.BytesIO(saved(Image.fromarray(noise), "JPEG")))
    rows = [{"prompt": "x?", "images": [Image.fromarray(noise), wide], "answer": "1"}]
    (row,) = load_rows(rows).dataset
    assert np.array_equal(row["images"][0], noise) and np.array_equal(row["images"][1], wide)


def test_the_fingerprint_is_of_all_that_is_read(folder):
    rows = easyr1_rows()
    base = load_rows(rows, root=folder).fingerprint()
    assert base == load_rows(rows, root=folder).fingerprint()
    assert base != load_rows(rows, root=folder, prompt=PROMPTS["letter"]).fingerprint()
    for change in (
        {"problem": "<image>?"},
        {"answer": "91"},
        {"level": 9},
        {"images": ["blue.png"]},
    ):
        other = [{**rows[0], **change}, *rows[1:]]
        assert load_rows(other, root=folder).fingerprint() != base
    assert load_rows(rows[::-1], root=folder).fingerprint() != base
    rows = [{**row, "id": str(number)} for number, row in enumerate(rows)]
    base = load_rows(rows, root=folder).fingerprint()
    # two images exchanged under their names: ids and paths are the same, the bytes are not
    red, blue = ((folder / name).read_bytes() for name in ("red.png", "blue.png"))
    (folder / "red.png").write_bytes(blue)
    (folder / "blue.png").write_bytes(red)
    assert load_rows(rows, root=folder).fingerprint() != base


def test_what_holds_no_rows_is_refused(tmp_path):
    for name, content, reason in (
        ("a.jsonl", "", "holds no rows"),
        ("b.jsonl", "\n \n", "holds no rows"),
        ("c.json", "[]", "holds no rows"),
        ("d.json", "{}", "must hold a list of rows, got dict"),
        ("e.json", "{", "is not JSON"),
        ("f.csv", "problem,answer\n", "holds no rows"),
        ("g.txt", "x", "of no known kind"),
        ("h.jsonl", "nothing\n", r"no row at all; h.jsonl:1: it is not JSON"),
        ("i.parquet", "PAR1", "cannot be read as parquet"),
        ("j.jsonl", '{"a": 1}\n', "no column holds the prompt"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=reason):
            load_rows(tmp_path / name)
    with pytest.raises(ValueError, match="holds no rows"):
        load_rows([])
    with pytest.raises(ValueError, match="got int"):
        load_rows(3)


def test_settings_are_checked(tmp_path):
    rows = [{"problem": "x", "answer": "1"}]
    with pytest.raises(ValueError, match=r"bad_rows must be one of .* got 'skip'"):
        load_rows(rows, bad_rows="skip")
    with pytest.raises(ValueError, match="needs a folder"):
        load_rows(rows, bad_rows="skip-and-list")


def test_rows_that_are_alike_have_ids_of_their_own():
    loaded = load_rows([{"problem": "x", "answer": "1"}] * 3)
    first, second, third = (row["id"] for row in loaded.dataset)
    assert (second, third) == (f"{first}-2", f"{first}-3")


def test_hundreds_of_damaged_files_are_used_or_listed(tmp_path):
    rows = []
    for name, data in fuzzed():
        (tmp_path / name).write_bytes(data)
        rows.append({"problem": "<image>x?", "images": [name], "answer": "1", "id": name})
    random.Random(1).shuffle(rows)
    loaded = load_rows(
        rows, root=tmp_path, bad_rows="skip-and-list", folder=tmp_path, prompt=find_prompt("letter")
    )
    assert len(loaded) + len(loaded.bad) == 300 and len(loaded) > 30 and len(loaded.bad) > 200
    assert all(bad.id == bad.image and bad.reason for bad in loaded.bad)
    assert all(len(pictures_of(row)) == 1 for row in loaded.dataset)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'sightline\[trl\]'"):
        load_rows([{"problem": "x", "answer": "1"}])
