"""Occlusion cell by cell: the right cell, the right place, what it costs and what is noise."""

import json

import pytest
import torch
from PIL import Image

from sightline.cli import main
from sightline.encoding import encode
from sightline.score import run as score_module
from sightline.score.attribution import strongest, sweep_cost, sweep_image
from sightline.score.token_rules import check_rule, choose_tokens
from sightline.scoring import score_views
from sightline.tasks import digits

SIDE = 16  # pixels of a merged cell of the tiny model


@pytest.fixture(scope="module")
def row():
    """A scene of 3 x 2 cells and a second picture."""
    first, second = digits.rows(2, split="heldout")
    first["images"] += second["images"]
    return first


def occluded(picture, row, column, colour):
    """The picture with one cell painted by PIL, before any processing."""
    copy = picture.copy()
    copy.paste(colour, (column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE))
    return copy


@pytest.mark.parametrize("batch_size", [2, 4, 32])
def test_a_sweep_equals_occlusion_one_by_one(tiny, row, batch_size):
    response = [" three and four"]
    encoded = encode(tiny.processor, [row], response)
    found = sweep_image(tiny.model, tiny.processor, encoded, 1, fill="black", batch_size=batch_size)
    assert found.grid == (2, 3) and found.unchanged == 0

    def log_probs(picture):
        pictures = [row["images"][0], picture]
        shown = encode(tiny.processor, [{**row, "images": pictures}], response)
        return score_views(tiny.model, shown, {}).log_probs[0]

    picture = row["images"][1]
    clean = log_probs(picture)
    for y in range(2):
        for x in range(3):
            expected = log_probs(occluded(picture, y, x, (0, 0, 0))) - clean
            assert expected.abs().max() > 1e-3
            torch.testing.assert_close(found.change[y, x], expected, atol=2e-5, rtol=0)
    whole = log_probs(Image.new("RGB", picture.size)) - clean
    torch.testing.assert_close(found.whole, whole, atol=2e-5, rtol=0)
    assert 0 <= found.noise_floor < 2e-5
    # 6 cells and the whole make 7, batch_size - 1 in a batch beside the untouched image; one alone
    batches = {2: 7, 4: 3, 32: 1}[batch_size]
    assert found.passes == 7 + batches + 1


def test_only_the_cell_that_matters_moves_the_score(tiny, row, monkeypatch):
    # a model whose log-prob of every token is the brightness of cell (1, 2) of the first image
    picture = row["images"][0]
    encoded = encode(tiny.processor, [{**row, "images": [picture]}], [" three"])
    means, stds = (
        torch.tensor(values)[:, None, None]
        for values in (
            tiny.processor.image_processor.image_mean,
            tiny.processor.image_processor.image_std,
        )
    )

    def bright(model, responses, views, **options):
        from sightline.families import _unfold

        tensors = responses._flat
        values = [
            (_unfold(pixels, grid[0].tolist(), 8, 2) * stds + means)[:, 16:32, 32:48].mean()
            for pixels, grid in zip(tensors["pixel_values"], tensors["image_grid_thw"], strict=True)
        ]
        table = torch.stack(values)[:, None].expand(responses.mask.shape)
        return score_views(model, responses, views)._replace(log_probs=table)

    monkeypatch.setattr("sightline.score.attribution.score_views", bright)
    found = sweep_image(tiny.model, tiny.processor, encoded, 0, fill="black", batch_size=4)
    still = torch.ones(2, 3, dtype=torch.bool)
    still[1, 2] = False
    assert found.change[still].abs().max() == 0
    brightness = float(torch.tensor(list(picture.crop((32, 16, 48, 32)).tobytes())).float().mean())
    assert found.change[1, 2, 0] == pytest.approx(-brightness / 255, abs=1e-5)
    assert found.whole[0] == pytest.approx(-brightness / 255, abs=1e-5)
    assert found.noise_floor == 0
    # two by two cells at a time: the last column stands alone
    found = sweep_image(tiny.model, tiny.processor, encoded, 0, fill="black", batch_size=4, block=2)
    assert found.grid == (1, 2)
    assert found.change[0, 0, 0] == 0 and found.change[0, 1, 0] < 0


def test_a_cell_that_looks_like_the_fill_is_counted(tiny, row):
    picture = occluded(row["images"][0], 0, 1, (0, 0, 0))
    encoded = encode(tiny.processor, [{**row, "images": [picture]}], [" three"])
    found = sweep_image(tiny.model, tiny.processor, encoded, 0, fill="black")
    assert found.unchanged == 1
    assert found.change[0, 1].abs().max() <= found.noise_floor + 1e-6
    assert sweep_image(tiny.model, tiny.processor, encoded, 0, fill="mean").unchanged == 0


def test_cells_within_the_noise_of_the_strongest_are_equal_to_it():
    change = torch.tensor([[0.5, -2.0, 0.0], [1.9, 1.7, -0.3]])
    assert strongest(change, 0.2) == [[0, 1], [1, 0]]  # 1.7 is 0.3 below
    assert strongest(change, 0.0) == [[0, 1]]
    assert strongest(torch.tensor([[1.0, -1.0, 1.0]]), 0.0) == [[0, 0], [0, 1], [0, 2]]
    assert strongest(change, 2.0) == []  # nothing is above the noise
    assert strongest(torch.tensor([[0.3, 0.2]]), 0.2) == [[0, 0]]  # 0.2 is within the noise
    assert strongest(torch.zeros(1, 2), 0.0) == []


def test_the_cost_is_known_before(tiny, row):
    encoded = encode(tiny.processor, [row], [" three"])
    passes = sum(
        sweep_image(tiny.model, tiny.processor, encoded, image, batch_size=4).passes
        for image in range(2)
    )
    assert sweep_cost(tiny.model, encoded, 1, 4) == passes == 2 * (7 + 3 + 1)


def test_what_cannot_be_swept_is_refused(tiny, row):
    encoded = encode(tiny.processor, [row], [" three"])
    with pytest.raises(ValueError, match="at least 2 for attribution, got 1"):
        sweep_image(tiny.model, tiny.processor, encoded, 0, batch_size=1)
    with pytest.raises(ValueError, match="place 2"):
        sweep_image(tiny.model, tiny.processor, encoded, 2)


def test_rules_choose_tokens():
    record = {
        "tokens": [" a", " b", "", " ab"],
        "dependency": [0.5, None, 0.5, 0.9],
        "labels": ["other", "visual", "other", "visual"],
    }
    assert choose_tokens("top:1", record) == [3]
    assert choose_tokens("top:2", record) == [0, 3]  # of equal ones the earlier
    assert choose_tokens("top:9", record) == [0, 1, 2, 3]
    assert choose_tokens("text:a", record) == [0, 3]
    assert choose_tokens("label:visual", record) == [1, 3]
    assert choose_tokens("top:2", {"tokens": ["a"]}) == []  # without an image
    for rule in ("top", "top:0", "top:x", "best:1", "text:(", "label:"):
        with pytest.raises(ValueError, match="--attribute"):
            check_rule(rule)


def test_the_file_has_a_line_per_image_and_is_gone_on_with(tiny, row, tmp_path, monkeypatch):
    monkeypatch.setattr(score_module, "load_model", lambda *_, **__: (tiny.model, tiny.processor))
    for index, picture in enumerate(row["images"]):
        picture.save(tmp_path / f"{index}.png")
    lines = [
        {"id": "a", "prompt": "q", "response": " one"},
        {"id": "b", "prompt": "q", "images": ["0.png", "1.png"], "response": " three 🙂"},
        {"id": "c", "prompt": "q", "images": ["1.png"], "response": " four"},
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = (
        f"score --model tiny --responses {tmp_path}/r.jsonl -o {tmp_path}/run --threads 1 "
        "--attribute-top 2 --attribute-responses 1"
    ).split()
    assert main(command) == 0
    path = tmp_path / "run" / "attribution.jsonl"
    whole = path.read_text()
    first, second = (json.loads(line) for line in whole.splitlines())
    assert (first["id"], first["image"], second["id"], second["image"]) == ("b", 0, "b", 1)
    assert first["grid"] == [2, 3] and first["fill"] == "mean" and first["passes"] == 9
    lines = (tmp_path / "run" / "tokens.jsonl").read_text(encoding="utf-8").split("\n")
    tokens = json.loads(lines[1])
    best = sorted(range(len(tokens["tokens"])), key=lambda i: -tokens["dependency"][i])[:2]
    assert [token["index"] for token in first["tokens"]] == sorted(best)
    for token in first["tokens"]:
        assert token["text"] == tokens["tokens"][token["index"]]
        assert [len(cells) for cells in token["change"]] == [3, 3]
        y, x = token["strongest"][0]
        assert abs(token["change"][y][x]) == max(abs(c) for line in token["change"] for c in line)
    run_floor = json.loads((tmp_path / "run" / "result.json").read_text())["noise_floor"]
    assert first["noise_floor"] >= run_floor > 0
    path.write_text(whole[: whole.index("\n") + 30])  # killed in the middle of the second line
    (tmp_path / "run" / "result.json").unlink()
    assert main(command) == 0
    assert path.read_text() == whole
