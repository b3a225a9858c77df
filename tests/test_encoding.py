"""Rows and responses side by side, and what cannot be encoded."""

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.encoding import encode
from sightline.tasks import digits


def test_responses_start_in_one_column_and_end_with_the_end_token(tiny):
    rows = digits.rows(2)
    rows[1]["images"] = rows[1]["images"] * 2  # a longer prompt
    encoded = encode(tiny.processor, rows, [" three", " three four five"])
    end = tiny.processor.tokenizer.eos_token_id

    assert encoded.mask.sum(1).tolist() == [2, 4]
    assert encoded.mask[:, 0].all()
    assert encoded.response_ids[0, 1] == encoded.response_ids[1, 3] == end
    assert torch.equal(encoded.inputs["input_ids"][:, -4:], encoded.response_ids)
    assert encoded.inputs["attention_mask"].sum(1).tolist() == [
        int(encoded.inputs["attention_mask"][0, :-4].sum()) + 2,
        int(encoded.inputs["attention_mask"][1, :-4].sum()) + 4,
    ]
    assert encoded.num_images == [1, 2]


def test_select_takes_rows_with_their_own_pictures(tiny):
    rows = digits.rows(3)
    rows[0]["images"] = []
    rows[1]["images"] = [rows[1]["images"][0].resize((96, 32)), rows[1]["images"][0]]
    together = encode(tiny.processor, rows, [" one"] * 3)
    for index in range(3):
        alone = encode(tiny.processor, [rows[index]], [" one"])
        chosen = together.select([index])
        assert chosen.num_images == alone.num_images
        assert ("pixel_values" in chosen.inputs) == (index > 0)
        for name in set(alone.inputs) & {"pixel_values", "image_grid_thw"}:
            assert torch.equal(chosen.inputs[name], alone.inputs[name])


@pytest.mark.parametrize("mode", ["P", "L", "CMYK", "RGBA"])
def test_a_picture_counts_as_its_rgb_version(tiny, mode):
    # T11
    grey = Image.fromarray(np.arange(32 * 48, dtype=np.uint8).reshape(32, 48))
    picture = grey.convert("RGB").convert(mode)
    rows = digits.rows(1)
    a = encode(tiny.processor, [{**rows[0], "images": [picture]}]).inputs["pixel_values"]
    b = encode(tiny.processor, [{**rows[0], "images": [picture.convert("RGB")]}]).inputs
    assert torch.equal(a, b["pixel_values"])


def test_what_is_no_picture_is_named(tiny):
    row = digits.rows(1)[0]
    with pytest.raises(ValueError, match=r"digits-rl-0-00000.*PIL pictures, got str"):
        encode(tiny.processor, [{**row, "images": ["cat.png"]}])
    with pytest.raises(ValueError, match=r"size \(0, 5\) is empty"):
        encode(tiny.processor, [{**row, "images": [Image.new("RGB", (0, 5))]}])


def test_a_truncated_picture_is_named(tiny, tmp_path):
    path = tmp_path / "cut.png"
    digits.rows(1)[0]["images"][0].save(path)
    path.write_bytes(path.read_bytes()[:200])
    with Image.open(path) as picture:
        row = {**digits.rows(1)[0], "images": [picture]}
        with pytest.raises(ValueError, match=r"digits-rl-0-00000.*cannot be read"):
            encode(tiny.processor, [row])


def test_rows_and_responses_must_match(tiny):
    with pytest.raises(ValueError, match="at least one row"):
        encode(tiny.processor, [])
    with pytest.raises(ValueError, match="a response per row, got 2 for 3"):
        encode(tiny.processor, digits.rows(3), [" one", " two"])
