"""An evaluation that is stopped and gone on with is the one that was not stopped."""

from dataclasses import replace

import pytest

from sightline.evaluate.protocol import Decoding
from sightline.evaluate.run import SAMPLES, evaluate, plan, read_samples
from sightline.rewards import Verifier
from sightline.score.responses import read_responses
from sightline.tasks import digits

DECODING = Decoding(n=2, max_new_tokens=45)
CONDITIONS = ["true", "none", "other"]


def planned(rows=None, conditions=CONDITIONS, decoding=DECODING, seed=0, batch_size=4):
    rows = digits.rows(3, split="heldout") if rows is None else rows
    return plan(rows, [row["id"] for row in rows], conditions, decoding, seed, batch_size)


def asked(warm, folder, request, progress=lambda done: None):
    return evaluate(warm.model, warm.processor, request, Verifier(), folder, progress)


def test_every_question_condition_and_sample_once_and_resumed_bit_by_bit(warm, tmp_path):
    seen, request = [], planned()
    samples = asked(warm, tmp_path, request, seen.append)
    assert seen == [0, 4, 8, 12, 16, 18]
    ids = [row["id"] for row in request.rows]
    assert [(s["condition"], s["id"], s["sample"]) for s in samples] == [
        (condition, name, sample) for condition in CONDITIONS for name in ids for sample in (0, 1)
    ]
    assert {s["reward"] for s in samples} == {0.0, 1.0}
    assert all((s["reward"] == 1) == (s["reward_reason"] == "matched") for s in samples)
    assert len({s["response"] for s in samples}) > 12  # each has dice of its own
    for s in samples:
        assert s["images"] == [] if s["condition"] == "none" else len(s["images"]) == 1
        assert all((tmp_path / image).is_file() for image in s["images"])
    # under a name of its own, what the second row shows
    shown = [tmp_path / samples[place]["images"][0] for place in (0, 2, 12)]
    own, second, other = (path.read_bytes() for path in shown)
    assert other == second != own

    whole = (tmp_path / SAMPLES).read_bytes()
    lines = whole.splitlines(keepends=True)
    # after 14 whole lines and a half one: the fourth batch of 4 is asked again as a whole
    for kept, first in [(14, 12), (18, 18)]:
        half = lines[kept][:9] if kept < 18 else b""
        (tmp_path / SAMPLES).write_bytes(b"".join(lines[:kept]) + half)
        seen.clear()
        asked(warm, tmp_path, request, seen.append)
        assert seen[0] == first and seen[-1] == 18
        assert (tmp_path / SAMPLES).read_bytes() == whole


@pytest.mark.parametrize(("keep", "kept"), [(False, [1, 0, 0]), (True, [1, 1, 1])])
def test_pictures_of_all_questions_are_kept_where_one_asks(warm, tmp_path, monkeypatch, keep, kept):
    monkeypatch.setattr("sightline.evaluate.run.PICTURED", 1)
    decoding = Decoding(n=1, max_new_tokens=2)
    request = replace(planned(conditions=["true"], decoding=decoding), keep_images=keep)
    assert [len(s["images"]) for s in asked(warm, tmp_path, request)] == kept


def test_samples_are_scored_with_the_prompt_that_was_asked(warm, tmp_path):
    rows = digits.rows(1, split="heldout")
    rows[0]["prompt"] = [{"role": "system", "content": "Be brief."}, *rows[0]["prompt"]]
    request = planned(rows, ["true", "none"], Decoding(n=1, max_new_tokens=2))
    asked(warm, tmp_path, request)
    own, none = read_responses(str(tmp_path / SAMPLES)).rows
    assert [message["role"] for message in own.prompt] == ["system", "user"]
    assert own.prompt[0]["content"] == "Be brief." and len(own.cells) == 1
    assert none.cells == [] and not own.finished


def test_another_seed_throws_other_dice_and_another_batch_size_the_same(warm, tmp_path):
    found = {}
    for name, settings in {
        "this": {},
        "batch": {"batch_size": 5},
        "seed": {"seed": 1},
    }.items():
        (tmp_path / name).mkdir()
        request = planned(conditions=["true"], **settings)
        found[name] = [s["response"] for s in asked(warm, tmp_path / name, request)]
    assert found["this"] == found["batch"] != found["seed"]


def test_each_question_has_dice_of_its_own(warm, tmp_path):
    # the same words and picture under four ids
    rows = [{**digits.rows(1, split="heldout")[0], "id": str(number)} for number in range(4)]
    request = planned(rows, ["true"], Decoding(n=1, max_new_tokens=12))
    assert len({s["response"] for s in asked(warm, tmp_path, request)}) == 4


def test_samples_of_something_else_are_left_alone(warm, tmp_path):
    asked(warm, tmp_path, planned(conditions=["true"]))
    before = (tmp_path / SAMPLES).read_bytes()
    with pytest.raises(ValueError, match="samples of another evaluation"):
        asked(warm, tmp_path, planned(conditions=["none"]))
    assert (tmp_path / SAMPLES).read_bytes() == before and len(list(read_samples(tmp_path))) == 6


def test_a_row_without_an_image_has_none_to_take_away():
    rows = digits.rows(4, split="heldout")
    rows[1]["images"] = []
    names = [(job.condition, job.row) for job in planned(rows).jobs()][::2]
    assert names == [
        *(("true", row) for row in range(4)),
        *((condition, row) for condition in ("none", "other") for row in (0, 2, 3)),
    ]
    assert planned(rows).others == [2, None, 0, 2]


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ValueError, match="no questions to ask"):
        planned([])
    blind = [{**row, "images": []} for row in digits.rows(2)]
    with pytest.raises(ValueError, match="no question has an image, so --image none other would"):
        planned(blind)
    assert len(planned(blind, ["true"]).jobs()) == 4
    same = [{**row, "images": digits.rows(1)[0]["images"]} for row in digits.rows(2)]
    with pytest.raises(ValueError, match="none of 2 questions with an image has a partner"):
        planned(same)
    assert len(planned(same, ["true", "none"]).jobs()) == 8
    assert planned(same, ["none"]).without_partner() == []  # which nobody needs


def test_a_row_without_a_partner_is_left_out_of_other_images_alone():
    rows = digits.rows(4, split="heldout")
    rows[2]["images"] = rows[2]["images"] * 2  # the only one with two
    rows[3]["images"] = []
    request = planned(rows)
    names = [(job.condition, job.row) for job in request.jobs()][::2]
    assert names == [
        *(("true", row) for row in range(4)),
        *(("none", row) for row in (0, 1, 2)),
        *(("other", row) for row in (0, 1)),
    ]
    assert request.without_partner() == [rows[2]["id"]]
