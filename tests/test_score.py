"""Scoring a file of responses: text and tokens line up, runs can be resumed, errors say why."""

import json
import re
import shutil
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sightline import Blind, MaskPatches
from sightline.algorithms import VPPO
from sightline.algorithms.base import ViewScores, checked_weights
from sightline.cli import main
from sightline.data import Limits
from sightline.draws import Draws
from sightline.encoding import Encoded
from sightline.models import load_model, weights_hash
from sightline.score import probe, recording, scorer
from sightline.score import run as score_module
from sightline.score.answered import Answered
from sightline.score.grounding import credit, summarise, summary_lines
from sightline.score.named_views import parse_views
from sightline.score.responses import read_responses
from sightline.score.tokens import Tokens, tokens_of
from sightline.scoring import Scored
from sightline.tasks import digits
from sightline.token_labels import token_spans, token_texts


@pytest.fixture
def model(tiny, monkeypatch):
    """The tiny model with random weights in the place of a loaded one."""
    monkeypatch.setattr(score_module, "load_model", lambda *_, **__: (tiny.model, tiny.processor))
    monkeypatch.setattr(probe, "PROBED", 2)
    return tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five responses to three questions, two of them to one, and one without an image."""
    folder = tmp_path_factory.mktemp("data")
    rows = digits.rows(3, split="heldout")
    for index, row in enumerate(rows):
        row["images"][0].save(folder / f"{index}.png")
    lines = [
        {"id": "a", "image": "0.png", "response": " three and four", "gold": "7", "reward": 1},
        {"id": "a", "image": "0.png", "response": " the left digit looks like one", "reward": 0},
        {"id": "b", "image": ["1.png"], "response": "🙂 \u0065\u0301 \u200f", "reward": 0},
        {"id": "c", "image": ["2.png", "0.png"], "response": " nine", "reward": 1},
        {"id": "d", "response": " zero and then some more words", "reward": 0},
    ]
    with (folder / "r.jsonl").open("w") as file:
        for line in lines:
            file.write(json.dumps({"question": "what ?", **line}) + "\n")
    return folder


def run(data, folder, *flags):
    command = ["score", "--model", "tiny", "--responses", str(data / "r.jsonl"), "-o", str(folder)]
    return main([*command, "--threads", "1", "--batch-size", "2", *flags])


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---------------------------------------------------------------- tokens and text

# 50 responses; the tokenizer has a token for each byte, so that every character of n bytes falls
# into n tokens unless it is in a word of the digits task
UNICODE = """🙂|👩‍👩‍👧|🏳️‍🌈|🇩🇪|é|e\u0301|\uff41\uff42|漢字|かな|한글|שלום|مرحبا\
|a\u0300\u0301\u0302|\u200f|\u202eabc|\x00|\x01\x02|\t\t
|\r\n|\u2028|\u2029|\x85|\ufeff|\ufffd|a\ufffdb|\ufffd\ufffd|\ufffe|\U0010ffff|ﬁ|Å|Ω|½|∑∫|x²|→|“q”|…|ß|ǆ|İ|ñandú|ไทย|हिन्दी|த|ꙮ|\U0001d518\U0001d52b|\x7f|three|"|\\u0041
""".rstrip("\n").split("|")


def test_each_token_of_fifty_unicode_strings_ends_where_its_last_byte_completes_a_character(tiny):
    assert len(UNICODE) == 50
    tokenizer = tiny.processor.tokenizer
    for given in UNICODE:
        text = unicodedata.normalize("NFC", given)  # as Qwen's tokenizer does
        ids = tokenizer(given, add_special_tokens=False)["input_ids"]
        texts = token_texts(tokenizer, ids)
        assert "".join(texts) == text == tokenizer.decode(ids)
        if len(ids) != len(text.encode()):
            continue  # a word of the vocabulary
        # a token per byte: one that is followed by a continuation byte (10xxxxxx) completes nothing
        encoded = text.encode()
        counts = [
            int(place + 1 == len(encoded) or encoded[place + 1] & 0xC0 != 0x80)
            for place in range(len(encoded))
        ]
        assert [len(piece) for piece in texts] == counts
        starts = [sum(counts[:place]) for place in range(len(counts))]
        assert token_spans(texts) == [(s, s + n) for s, n in zip(starts, counts, strict=True)]
    assert sum(len(tokenizer(t)["input_ids"]) == len(t.encode()) for t in UNICODE) > 30


def test_spans_worked_by_hand(tiny):
    # "a" 1 byte; U+1F642 4; U+FFFD, which is a character here and no damage, 3; "b" 1: nine tokens
    tokenizer = tiny.processor.tokenizer
    ids = tokenizer("a🙂\ufffdb")["input_ids"]
    assert token_texts(tokenizer, ids) == ["a", "", "", "", "🙂", "", "", "\ufffd", "b"]
    spans = token_spans(token_texts(tokenizer, ids))
    assert spans == [(0, 1), *[(1, 1)] * 3, (1, 2), (2, 2), (2, 2), (2, 3), (3, 4)]
    # cut inside of the emoji: three bytes that are no character, told by the end
    assert (
        token_texts(tokenizer, ids[:4])
        == ["a", "", "", "\ufffd"]
        == [
            *token_texts(tokenizer, ids[:3])[:2],
            "",
            tokenizer.decode(ids[:4])[1:],
        ]
    )
    # bytes that no character begins with: damage that the "b" after it tells
    assert token_texts(tokenizer, [ids[1], ids[-1]]) == ["", "\ufffdb"]
    with pytest.raises(ValueError, match="token id 9999999 is not in the model's vocabulary"):
        token_texts(tokenizer, [9_999_999])


def answered(text=None, ids=None, **more):
    return Answered("a", "a", 0, [], [], (), text, ids, **more)


def test_the_end_token_is_no_text_and_added_once(tiny):
    tokenizer = tiny.processor.tokenizer
    three = tokenizer(" three")["input_ids"]
    end = tokenizer.eos_token_id
    for row in (answered(" three"), answered(" three<|im_end|>"), answered(None, [*three, end])):
        found = tokens_of(tokenizer, row)
        assert (found.ids, found.text) == ([*three, end], " three")
        assert found.spans == [(0, 6), (6, 6)] and found.differs is None
    cut = tokens_of(tokenizer, answered(" three", finished=False))
    assert cut.ids == three and cut.spans == [(0, 6)]


def test_a_text_that_its_tokens_spell_otherwise_is_found(tiny):
    tokenizer = tiny.processor.tokenizer
    decomposed = tokens_of(tokenizer, answered("ab e\u0301"))
    # the tokenizer composes: "ab é", four characters, the first three as given
    assert decomposed.text == "ab é" and decomposed.differs == 3
    assert tokens_of(tokenizer, answered("é")).differs is None
    ids = tokenizer(" three")["input_ids"]
    assert tokens_of(tokenizer, answered(" three four", ids)).differs == 6  # after " three"
    assert tokens_of(tokenizer, answered(" three", [*ids, tokenizer.eos_token_id])).differs is None


# ---------------------------------------------------------------- the file


def test_columns_of_any_framework_are_said(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    path = write(
        tmp_path / "r.jsonl",
        {"problem": "<image>what", "images": ["x.png"], "output": "so", "answer": 3},
        {"problem": "<image>what", "images": ["x.png"], "output": "no", "answer": 3},
    )
    found = read_responses(str(path))
    assert found.taken == {
        "prompt": "problem",
        "images": "images",
        "response": "output",
        "gold": "answer",
    }
    assert "response ← output" in found.description()
    first, second = found.rows
    assert first.prompt_id == second.prompt_id and first.gold == "3"
    assert [first.id, second.id] == ["line 1", "line 2"]
    assert (first.sample, second.sample) == (0, 1)
    assert first.prompt[0]["content"][0] == {"type": "image"}


def test_images_outside_of_the_folder_are_taken_where_that_is_allowed(tmp_path):
    (tmp_path / "inner").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    row = {"id": "a", "question": "q", "response": "r", "image": "../x.png"}
    path = write(tmp_path / "inner" / "r.jsonl", row)
    assert len(read_responses(path).bad) == 1
    (found,) = read_responses(path, allow_outside_root=True).rows
    assert found.cells


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "none.png"}, r"image 'none.png': there is no such file"),
        ({"image": "../x.png"}, "leaves the folder"),
        ({"image": "https://x.org/x.png"}, "nothing is fetched"),
        ({"response": None}, "response must be text, got nothing"),
        ({"response": "a\ud800"}, r"lone surrogate U\+D800 at character 1"),
        ({"question": "a\udfff?"}, r"lone surrogate U\+DFFF"),
        (
            {"question": "<|im_start|>user\na?"},
            r"<\|im_start\|>: the chat template is in it already",
        ),
        ({"response": "a <|image_pad|>"}, "stands for a picture: take it out"),
        ({"response_ids": [1, -2]}, "must be a list of token ids"),
        ({"reward": "good"}, "reward must be a number"),
        ({"reward": 10**400}, "reward must be a number"),
        ({"image": "half.png"}, r"image 'half.png': it cannot be decoded"),
        ({"spans": [[3, 1, "visual"]]}, r"spans must be a list of \[start, end, label\]"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, said):
    Image.new("RGB", (32, 32)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    path = write(tmp_path / "r.jsonl", {"id": "bad", "question": "q", "response": "r", **row})
    (bad,) = read_responses(str(path)).bad
    assert bad.id == "bad" and bad.place == "r.jsonl:1"
    assert re.search(said, str(bad))


def refused(capsys, data, folder, *flags):
    assert run(data, folder, *flags) == 2
    message = capsys.readouterr().err
    assert message.startswith("sightline: ") and "Traceback" not in message
    return message


def test_what_cannot_be_scored_is_one_sentence(model, data, tmp_path, capsys):
    def say(*rows):
        write(tmp_path / "r.jsonl", *rows)
        return refused(capsys, tmp_path, tmp_path / "run")

    assert "is empty" in say()
    assert "no column holds the response" in say({"prompt": "q"})
    assert "no row of r.jsonl has an image" in say({"prompt": "q", "response": "r"})
    many = [{"id": n, "prompt": "q", "image": "no.png", "response": "r"} for n in range(25)]
    message = say(*many)
    assert "25 of 25 rows" in message and "… and 5 more" in message and "row '0'" in message
    assert not (tmp_path / "run").exists()
    out = tmp_path / "run"
    for flags, said in {
        ("--views", "blond"): "unknown view 'blond'; known: blind",
        ("--views", "patches:chance=1"): "'chance=1' is no parameter of patches",
        ("--views", "blind,blind"): "asked for twice",
        ("--views", "noise:std=much"): "std must be a number",
        ("--views", "blind:image=first"): "image must be a whole number, got 'first'",
        ("--weights", "ppo"): "'ppo'; known: grpo",
        ("--weights", "vppo", "--views", "blind,patches:probability=0.9"): None,
        ("--extras",): "--extras needs --exact-kl",
        ("--attribute", "best"): "must be top:K",
        ("--batch-size", "0"): "--batch-size must be at least 1",
        ("--extractor", "oracle"): "--extractor must be one of",
        ("--temperature", "0"): "--temperature must be above 0",
    }.items():
        if said:
            assert said in refused(capsys, data, out, *flags)
    assert not out.exists()


def test_a_model_without_vision_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="a llama model without vision"):
        load_model(str(tmp_path), scored=True)
    with pytest.raises(FileNotFoundError, match=r"no model at './nowhere'"):
        load_model("./nowhere")


def test_an_image_that_does_not_reach_the_model_is_an_error(
    model, data, tmp_path, monkeypatch, capsys
):
    def blind_to_it(self, chosen):
        rows, encoded, found = scored(self, chosen)
        views = {n: ViewScores(torch.zeros_like(s.log_ratio)) for n, s in found.views.items()}
        return rows, encoded, found._replace(views=views)

    scored = scorer.Scorer.scored
    monkeypatch.setattr(scorer.Scorer, "scored", blind_to_it)
    assert "image does not reach the model" in refused(capsys, data, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_the_noise_floor_is_how_far_responses_move_when_scored_alone():
    class Shaky(scorer.Scorer):
        """Responses of 3, 2 and 1 tokens; alone, the blind score of the second is 0.25 off."""

        def scored(self, chosen):
            mask = torch.tensor([[p < n for p in range(3)] for n in (3, 2, 1)])[list(chosen)]
            off = 0.25 * (chosen == [1])
            ratio = (torch.full(mask.shape, 0.5) + off) * mask
            table = torch.zeros(mask.shape)
            width = int(mask.sum(1).max())
            rows = Encoded({}, mask.long(), mask, [1] * len(mask))
            views = {"blind": ViewScores(ratio[:, :width])}
            return [], rows, Scored(table[:, :width], views, float("nan"), {})

    rows = [replace(answered(text=""), cells=["x"])] * 3
    tokens = [Tokens([0] * n, [], "", [], None) for n in (3, 2, 1)]
    shaky = Shaky(None, None, {}, rows, tokens, Draws(0, 0, [], []), Limits(), {})
    assert probe.noise_floor(shaky) == 0.25


def test_views_are_named_as_they_are_written():
    assert parse_views("blind:image=1") == {"blind:image=1": Blind(image=1)}
    views = parse_views("blind:by=mask,patches:probability=0.25:unit=cell,patches")
    assert views == {
        "blind:by=mask": Blind("mask"),
        "patches:probability=0.25:unit=cell": MaskPatches(0.25, "cell"),
        "patches": MaskPatches(),
    }


# ---------------------------------------------------------------- the run

FLAGS = ("--views", "blind,patches", "--controls", "--exact-kl", "--weights", "pgpo,vppo")


@pytest.fixture(scope="module")
def finished(data, tiny, tmp_path_factory):
    """A whole run, of which later ones are to be copies."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_module, "load_model", lambda *_, **__: (tiny.model, tiny.processor))
        patch.setattr(probe, "PROBED", 2)
        assert run(data, folder, *FLAGS) == 0
    return folder


def test_a_run_leaves_all_the_report_needs(finished, tiny):
    records = lines_of(finished / "tokens.jsonl")
    assert [r["id"] for r in records] == ["a-0", "a-1", "b", "c", "d"]
    assert [r["prompt_id"] for r in records] == ["a", "a", "b", "c", "d"]
    for record in records[:4]:
        n = len(record["tokens"])
        assert len(record["dependency"]) == len(record["log_probs"]) == len(record["offsets"]) == n
        for token, (start, end) in list(zip(record["tokens"], record["offsets"], strict=True))[:-1]:
            assert record["response"][start:end] == token
        assert record["offsets"][-1] == [len(record["response"])] * 2
        assert all((finished / image).is_file() for image in record["images"])
        assert set(record["credit"]) == {"pgpo", "vppo"}
    assert records[4]["views"] == {} and "dependency" not in records[4]
    assert records[4]["credit"]["vppo"] == [1.0] * len(records[4]["tokens"])
    # the decomposed é of b is composed by the tokenizer; the third character is the first to differ
    assert [r["respelt"] is None for r in records] == [True, True, False, True, True]
    assert records[2]["respelt"] == {"given": "🙂 e\u0301 \u200f", "first_difference": 2}
    # 48 x 32 pixels are 3 x 2 cells of 16
    assert [r["image_tokens"] for r in records] == [6, 6, 6, 12, 0]
    assert not (finished / "tokens.partial.jsonl").exists()


def test_controls_stand_beside_the_views_and_the_same_image_is_exactly_zero(finished):
    records = lines_of(finished / "tokens.jsonl")
    controls = ["same", "blank", "other", "seed-1", "seed-2"]
    assert list(records[0]["views"]) == ["blind", "patches", *(f"control:{c}" for c in controls)]
    for record in records[:4]:
        same = record["views"]["control:same"]
        assert set(same["log_ratio"]) == set(same["kl"]) == {0.0}
        for name in ("blind", "control:blank", "control:other"):
            assert any(record["views"][name]["log_ratio"])
    one, two, patches = (
        [r["views"][name]["log_ratio"] for r in records[:4]]
        for name in ("control:seed-1", "control:seed-2", "patches")
    )
    assert one != two and one != patches and two != patches
    result = json.loads((finished / "result.json").read_text())
    assert result["controls"]["control:same"] == {"mean_k3": 0.0, "largest": 0.0}
    assert result["warnings"] == [] and 0 <= result["noise_floor"] < 1e-4
    assert result["dependency_right"]["n"] == 2 and result["dependency_wrong"]["n"] == 2
    # fewer than five have no interval, neither the groups nor all of them
    assert {result[f"dependency{side}"]["ci95"] for side in ("", "_right", "_wrong")} == {None}
    assert (result["scored"], result["without_image"], result["respelt"]) == (4, 1, 1)
    assert result["image_tokens"] == [6, 6, 12]


def test_the_table_has_a_row_per_token(finished):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(finished / "tokens.parquet").to_pylist()
    records = lines_of(finished / "tokens.jsonl")
    assert len(table) == sum(len(r["tokens"]) for r in records)
    record, first = records[0], table[0]
    assert (first["id"], first["index"], first["text"]) == ("a-0", 0, record["tokens"][0])
    assert [first["start"], first["end"]] == record["offsets"][0]
    assert first["blind/log_ratio"] == pytest.approx(record["views"]["blind"]["log_ratio"][0])
    assert first["blind/k3"] == pytest.approx(record["dependency"][0])
    assert first["blind/kl"] == pytest.approx(record["views"]["blind"]["kl"][0])
    assert table[-1]["id"] == "d" and table[-1]["blind/k3"] is None


def test_a_resumed_run_equals_an_uninterrupted_one(model, data, finished, tmp_path, monkeypatch):
    folder, batches = tmp_path / "run", []
    records = recording.batch_records

    def stop_after_one(scorer, batch, path):
        batches.append(batch)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return records(scorer, batch, path)

    monkeypatch.setattr(recording, "batch_records", stop_after_one)
    assert run(data, folder, *FLAGS) == 130
    assert not (folder / "tokens.jsonl").exists()
    partial = folder / "tokens.partial.jsonl"
    assert len(lines_of(partial)) == 2
    # the longest come first: what does not fit into memory is found out at once
    lengths = [len(record["tokens"]) for record in lines_of(finished / "tokens.jsonl")]
    assert sorted(lengths[place] for place in batches[0]) == sorted(lengths)[-2:]
    # killed in the middle of the second batch, and of a line of it
    first = partial.read_text()
    other = {"place": batches[1][0]}
    partial.write_text(first + json.dumps(other) + '\n{"place": 1, "tok')

    assert run(data, folder, *FLAGS) == 0
    assert batches[2:] == [batches[1], batches[-1]] and len(batches) == 4
    for name in ("tokens.jsonl", "tokens.parquet", "result.json"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
    assert run(data, folder, *FLAGS) == 0  # once more: nothing is left to do
    assert len(batches) == 4


def test_another_request_does_not_go_on_with_a_run(
    model, data, finished, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    message = refused(capsys, data, folder, *FLAGS, "--seed", "1")
    assert "seed was 0, now 1" in message
    other = tmp_path / "data"
    shutil.copytree(data, other)
    text = (other / "r.jsonl").read_text()
    (other / "r.jsonl").write_text(text.replace(" nine", " eight"))
    assert "data.fingerprint was" in refused(capsys, other, folder, *FLAGS)
    with monkeypatch.context() as patch:
        patch.setattr(score_module, "weights_hash", lambda model: "of another checkpoint")
        assert "weights_hash was" in refused(capsys, data, folder, *FLAGS)
    before = weights_hash(model.model)
    weight = next(model.model.parameters())
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.flatten()[0] += 1
        assert weights_hash(model.model) != before
        weight.copy_(kept)
    assert weights_hash(model.model) == before
    (folder / "run.json").write_text('{"algorithm": "pgpo"}')
    assert "belongs to another run" in refused(capsys, data, folder, *FLAGS)


def test_a_run_goes_on_with_other_threads_and_says_so(
    model, data, finished, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    # two threads are slow where cores are shared
    monkeypatch.setattr(score_module, "use_threads", lambda count: None)
    again = (*FLAGS, "--threads", "2", "--device", "cpu")
    assert run(data, folder, *again) == 0  # nothing is left to do, and so nothing to be said
    assert "note" not in capsys.readouterr().out
    (folder / "result.json").unlink()
    assert run(data, folder, *again) == 0
    assert "threads was 1, is 2; device was auto, is cpu" in capsys.readouterr().out
    about = json.loads((folder / "run.json").read_text())
    assert about["threads"] == 1
    assert [(part["threads"], part["device"]) for part in about["resumed"]] == [(2, "cpu")]
    (folder / "result.json").unlink()
    assert run(data, folder, *again) == 0
    assert "note" not in capsys.readouterr().out  # as it was last


def test_the_pictures_of_views_are_kept_for_the_report(finished):
    records = lines_of(finished / "tokens.jsonl")
    for record in records[:4]:
        assert "images" not in record["views"]["blind"]  # there is nothing to see
        assert "images" not in record["views"]["control:blank"]
        pictures = record["views"]["patches"]["images"]
        assert len(pictures) == len(record["images"])
        for own, shown in zip(record["images"], pictures, strict=True):
            before, after = (
                np.asarray(Image.open(finished / path).convert("RGB")) for path in (own, shown)
            )
            assert after.shape == before.shape  # 48 x 32 is what the encoder sees
            blocks = np.abs(after.astype(int) - before).reshape(4, 8, 6, 8, 3).max((1, 3, 4)) > 2
            black = after.reshape(4, 8, 6, 8, 3).max((1, 3, 4)) == 0
            assert black.any() and not (blocks & ~black).any()  # whole patches, and no others
    # two responses to one question have draws of their own
    assert records[0]["views"]["patches"]["images"] != records[1]["views"]["patches"]["images"]


def test_the_report_shows_them(finished, tmp_path):
    pytest.importorskip("matplotlib")
    from sightline.report import write_report

    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "no picture of it recorded" not in page and "image as the view showed it" in page


def test_bad_rows_may_be_listed_and_a_lone_picture_has_no_other(model, data, tmp_path, capsys):
    rows = [
        {"id": "good", "prompt": "q", "image": str(data / "0.png"), "response": " one"},
        {"id": "bad", "prompt": "q", "image": "none.png", "response": " two"},
    ]
    shutil.copy(data / "0.png", tmp_path / "0.png")
    rows[0]["image"] = "0.png"
    write(tmp_path / "r.jsonl", *rows)
    flags = ("--bad-rows", "skip-and-list", "--controls", "--exact-kl", "--extras")
    folder = tmp_path / "run"
    assert run(tmp_path, folder, *flags) == 0
    assert "control:other is left out" in capsys.readouterr().out
    (bad,) = lines_of(folder / "bad_rows.jsonl")
    assert bad["id"] == "bad" and bad["image"] == "none.png"
    (record,) = lines_of(folder / "tokens.jsonl")
    assert "control:other" not in record["views"]
    blind = record["views"]["blind"]
    assert len(blind["entropy"]) == len(record["tokens"]) and min(blind["entropy"]) > 0
    assert json.loads((folder / "result.json").read_text())["bad_rows"] == 1
    assert "view 'other' needs another image" in refused(
        capsys, tmp_path, tmp_path / "x", "--bad-rows", "skip-and-list", "--views", "other"
    )


def test_a_damaged_run_says_so(model, data, finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "result.json").unlink()
    (folder / "tokens.jsonl").write_text('{"id": \n{}\n')
    assert "tokens.jsonl, line 1, cannot be read" in refused(capsys, data, folder, *FLAGS)


def test_scores_do_not_depend_on_what_else_is_in_the_batch(model, data, finished, tmp_path):
    views = "blind,patches,other"
    assert run(data, tmp_path / "run", "--views", views, "--batch-size", "5") == 0
    (other_picture,) = lines_of(tmp_path / "run/tokens.jsonl")[0]["views"]["other"]["images"]
    # of the first of five the row two further on: b, whose picture is 1.png
    shown = Image.open(tmp_path / "run" / other_picture).convert("RGB")
    expected = Image.open(data / "1.png").convert("RGB")
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(expected)).max() <= 2
    for one, other in zip(
        lines_of(finished / "tokens.jsonl"), lines_of(tmp_path / "run/tokens.jsonl"), strict=True
    ):
        assert one["images"] == other["images"]
        for name, scores in other["views"].items():
            before = one["views"][{"other": "control:other"}.get(name, name)]
            assert scores["log_ratio"] == pytest.approx(before["log_ratio"], abs=1e-4)


def test_our_own_records_are_taken_back(model, finished, tmp_path):
    again = tmp_path / "again"
    command = f"score --model tiny --responses {finished}/tokens.jsonl -o {again} --threads 1"
    assert main([*command.split(), "--batch-size", "2"]) == 0
    for one, other in zip(
        lines_of(finished / "tokens.jsonl"), lines_of(again / "tokens.jsonl"), strict=True
    ):
        assert one["response_ids"] == other["response_ids"] and one["chat"] == other["chat"]
        assert one["id"] == other["id"] and one["reward"] == other["reward"]
        assert one["log_probs"] == pytest.approx(other["log_probs"], abs=1e-4)


def stopped(*_, **__):
    raise KeyboardInterrupt


def test_the_model_answers_itself_and_the_same_after_an_interrupt(
    model, data, tmp_path, monkeypatch, capsys
):
    questions = tmp_path / "data"
    shutil.copytree(data, questions)
    rows = [{"id": n, "question": f"what {n}?", "image": f"{n}.png", "gold": "7"} for n in range(3)]
    write(questions / "r.jsonl", *rows, {"id": "lost", "question": "what?", "image": "no.png"})
    flags = ("--generate", "2", "--max-new-tokens", "6", "--temperature", "0.9")
    flags += ("--bad-rows", "skip-and-list")
    with monkeypatch.context() as patch:  # stopped before the first answer
        patch.setattr(score_module, "sample_responses", stopped)
        assert run(questions, tmp_path / "whole", *flags) == 130
    capsys.readouterr()
    assert run(questions, tmp_path / "whole", *flags) == 0
    (bad,) = lines_of(tmp_path / "whole" / "bad_rows.jsonl")
    assert bad["id"] == "lost"
    whole = (tmp_path / "whole" / "tokens.jsonl").read_bytes()
    records = lines_of(tmp_path / "whole" / "tokens.jsonl")
    assert [r["id"] for r in records] == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    assert all(r["reward_reason"] == "no_answer" and r["reward"] == 0 for r in records)
    assert records[0]["response_ids"] != records[1]["response_ids"]
    assert all(
        r["finished"] == (r["response_ids"][-1] == model.processor.tokenizer.eos_token_id)
        for r in records
    )
    # of the second question only one response was written, and half of the other
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    path = tmp_path / "cut" / "responses.jsonl"
    kept = path.read_text().split("\n")
    path.write_text("\n".join([*kept[:3], kept[3][:20]]))
    (tmp_path / "cut" / "tokens.jsonl").unlink()
    assert run(questions, tmp_path / "cut", *flags) == 0
    assert (tmp_path / "cut" / "tokens.jsonl").read_bytes() == whole
    write(questions / "r.jsonl", rows[0], rows[0])
    assert "put one question" in refused(capsys, questions, tmp_path / "x", *flags)


# ---------------------------------------------------------------- numbers


def test_credit_is_that_of_the_whole_file_as_one_batch():
    ratios = [[-2.0, 0.0, 0.5], [-0.1, 0.2], []]
    records = [
        {"tokens": ["x"] * max(len(r), 1), "views": {"patches": {"log_ratio": r}} if r else {}}
        for r in ratios
    ]
    table = torch.tensor([[-2.0, 0.0, 0.5], [-0.1, 0.2, 0], [0, 0, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    expected = checked_weights(VPPO(), {"patches": ViewScores(table)}, mask)
    found = credit(records, "vppo")
    assert found == [expected[0].tolist(), expected[1, :2].tolist(), [1.0]]
    assert found[0][0] > 1 > found[1][1] > 0  # scaled against each other


def test_responses_to_another_rows_image_are_in_no_mean():
    def record(split, dependency, reward):
        return {"tokens": ["a"], "views": {"blind": {"log_ratio": [1.0]}}, "split": split,
                "dependency": [dependency], "reward": reward, "image_tokens": 6,
                "respelt": None}  # fmt: skip

    own, other = record("true image", 0.5, 1.0), record("other image", 0.1, 0.0)
    found = summarise([own, other, other], 0.0)
    assert (found["scored"], found["of_other_splits"]) == (3, 2)
    assert found["dependency"]["mean"] == 0.5 and found["dependency_wrong"] is None
    assert any(line.startswith("2 of them are of training, or") for line in summary_lines(found))
    alone = summarise([other, other], 0.0)  # there is nothing else to be said
    assert alone["of_other_splits"] == 0 and alone["dependency_wrong"]["mean"] == 0.1


def test_what_makes_numbers_worthless_is_warned_of():
    def record(**ratios):
        views = {name: {"log_ratio": [r, -r]} for name, r in ratios.items()}
        return {
            "tokens": ["a", "b"],
            "views": views,
            "dependency": [0.1, 0.2],
            "reward": None,
            "image_tokens": 6,
            "respelt": None,
        }

    (alone,) = summarise([record(blind=0.5)], 0.1)["warnings"]
    assert "no controls" in alone
    low = summarise([record(blind=0.05)], 0.1)["warnings"]
    assert "no dependency rises above the noise floor" in low
    shaky = summarise([record(**{"blind": 0.5, "control:same": 0.01})], 0.1)["warnings"]
    assert len(shaky) == 1 and "same image twice differs by 0.01" in shaky[0]
    (nothing,) = summarise([record(**{"blind": 0.5, "control:same": 0.0, "noise": 0.0})], 0.1)[
        "warnings"
    ]
    assert nothing == "view 'noise' changes nothing anywhere"
