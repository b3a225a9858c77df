"""Views carried out on real processors: on the encoder's grid, by counter, and never in silence."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from sightline import (
    AddNoise,
    Blind,
    GaussianBlur,
    Gray,
    MaskPatches,
    OtherImage,
    TextOnlyPrompt,
    View,
)
from sightline.draws import Draws
from sightline.encoding import encode
from sightline.families import QwenVL, family_of
from sightline.scoring import score_views
from sightline.tasks import digits
from sightline.view_inputs import ViewInputs, to_source_size

PIXEL_VIEWS = (
    MaskPatches(0.5),
    MaskPatches(0.5, "cell"),
    AddNoise(0.2),
    GaussianBlur(2.0),
    Gray(),
    OtherImage(),
)


@pytest.fixture
def rows():
    """Two prompts of two responses each; the second has two images, one of them larger."""
    first, second = digits.rows(2, seed=3)
    second["images"] = [second["images"][0], first["images"][0].resize((96, 64))]
    return [first, first, second, second]


@pytest.fixture
def responses(tiny, rows):
    return encode(tiny.processor, rows, [" three", " four five", " six", " nine one two"])


def inputs_of(tiny, responses, rows, view, name="view", draws=None):
    """The inputs of every row under the view, and the clean ones."""
    family = family_of(tiny.model.config.model_type)
    draws = draws or Draws.of(rows)
    make = ViewInputs(tiny.model, family, responses, tiny.processor, draws)
    make.check(name, view)
    clean = {
        **responses.inputs,
        "position_ids": family.position_ids(tiny.model, responses.inputs),
    }
    return make(name, view, clean, range(len(responses.mask))), clean


def pixels_of(tiny, inputs):
    """The pictures in [0, 1] that the encoder is given."""
    found = []
    normalization = (
        tiny.processor.image_processor.image_mean,
        tiny.processor.image_processor.image_std,
    )
    QwenVL().map_images(
        tiny.model, inputs, normalization, lambda i, image, p, m: found.append(image) or image
    )
    return found


# --- what is changed, and what is not


@pytest.mark.parametrize("view", PIXEL_VIEWS, ids=repr)
def test_only_pixels_change(tiny, responses, rows, view):  # W4, T17, T18
    before = {name: value.clone() for name, value in responses.inputs.items()}
    changed, clean = inputs_of(tiny, responses, rows, view)
    assert changed.keys() == clean.keys()
    for name, value in clean.items():
        assert (name == "pixel_values") != changed[name].equal(value)
    assert changed["pixel_values"].shape == clean["pixel_values"].shape
    for name, value in before.items():
        assert responses.inputs[name].equal(value)


def test_the_pictures_are_those_that_went_in(tiny, rows):
    # in raster order again, whatever the order of patches: exact but for 8-bit rounding
    responses = encode(tiny.processor, rows[2:3], [" three"])
    clean = responses.inputs
    for found, picture in zip(pixels_of(tiny, clean), rows[2]["images"], strict=True):
        expected = torch.tensor(np.asarray(picture)).permute(2, 0, 1) / 255
        assert_close(found, expected, atol=1e-6, rtol=0)


def test_masked_patches_are_black_in_every_copy_and_the_rest_keeps_its_bits(
    tiny, responses, rows
):  # T10, W4
    changed, clean = inputs_of(tiny, responses, rows, MaskPatches(0.5))
    images = tiny.processor.image_processor
    black = torch.tensor(
        [(0 - m) / s for m, s in zip(images.image_mean, images.image_std, strict=True)]
    )
    # a patch is channels x temporal copies x 8 x 8
    patches = changed["pixel_values"].reshape(-1, 3, 2, 8, 8)
    expected = black[:, None, None, None].expand(3, 2, 8, 8)
    is_black = torch.isclose(patches, expected, atol=1e-6).flatten(1).all(1)
    same = (changed["pixel_values"] == clean["pixel_values"]).all(1)
    assert (is_black ^ same).all()
    assert 0.2 < is_black.float().mean() < 0.8


def test_share_of_black_patches_is_nominal_for_any_size(tiny):  # T8
    rng = np.random.default_rng(0)
    row, black, total = digits.rows(1)[0], 0, 0
    for index in range(60):
        width, height = rng.integers(40, 128, 2)
        picture = Image.fromarray(rng.integers(1, 255, (height, width, 3), dtype=np.uint8))
        row = {**row, "id": f"{index}", "images": [picture] * 8}
        responses = encode(tiny.processor, [row], [" one"])
        changed, clean = inputs_of(tiny, responses, [row], MaskPatches(0.3))
        differs = changed["pixel_values"] != clean["pixel_values"]
        assert (~differs.any(1) | (differs.float().mean(1) > 0.95)).all()  # none black in part
        black, total = black + int(differs.any(1).sum()), total + len(differs)
    # within one point of nominal; 4 standard deviations of 40,000 draws are 0.9 points
    assert total > 40_000
    assert abs(black / total - 0.3) < 0.01


def test_the_share_before_the_processor_resizes_is_not(tiny, monkeypatch):  # T8, the control
    # the authors' order: squares of 14 pixels are then resized and out of line with patches of 8
    picture = Image.fromarray(np.full((448, 1000, 3), 200, dtype=np.uint8))
    row = {**digits.rows(1)[0], "images": [picture]}
    responses = encode(tiny.processor, [row], [" one"])
    changed, clean = inputs_of(tiny, responses, [row], MaskPatches(0.5, grid="source"))
    wholly = pixels_of(tiny, changed)[0].unfold(1, 8, 8).unfold(2, 8, 8).amax((0, 3, 4)) < 0.02
    assert 0.0 <= wholly.float().mean() < 0.25
    assert changed["pixel_values"].shape == clean["pixel_values"].shape


def test_pictures_of_the_authors_sizes():  # W6
    for size, expected in {
        (4000, 3000): (1156, 867),
        (100, 100): (447, 447),
        (640, 480): (640, 480),
        (1120, 896): (1120, 896),
    }.items():
        assert to_source_size(Image.new("RGB", size)).size == expected


def test_a_source_view_of_another_size_is_refused(tiny):
    picture = Image.new("RGB", (100, 30), (9, 9, 9))
    row = {**digits.rows(1)[0], "images": [picture]}
    responses = encode(tiny.processor, [row], [" one"])
    with pytest.raises(ValueError, match="resize the data to that range, or use grid='encoder'"):
        inputs_of(tiny, responses, [row], MaskPatches(0.5, grid="source"))


def test_pixels_of_another_rank_are_refused(tiny, responses, rows):  # T7
    broken = {**responses.inputs, "pixel_values": responses.inputs["pixel_values"][None, None]}
    with pytest.raises(ValueError, match=r"must be \(patches, features\), got the shape \(1, 1,"):
        QwenVL().map_images(tiny.model, broken, ([0.0] * 3, [1.0] * 3), lambda i, x, p, m: x)


# --- randomness by counter


def test_draws_hang_on_names_and_not_on_the_batch(tiny, rows):  # T14, W5
    texts = [" three", " four five", " six", " nine one two"]
    draws = Draws.of(rows, seed=5, step=7)
    together, _ = inputs_of(
        tiny, encode(tiny.processor, rows, texts), rows, MaskPatches(0.5), draws=draws
    )
    by_row = encode(tiny.processor, rows, texts)
    by_row = replace(by_row, inputs={**by_row.inputs, "pixel_values": together["pixel_values"]})
    for order in ([3, 1, 0, 2], [2]):
        some = [rows[i] for i in order]
        drawn = draws._replace(
            prompts=[draws.prompts[i] for i in order],
            responses=[draws.responses[i] for i in order],
        )
        part = encode(tiny.processor, some, [texts[i] for i in order])
        apart, _ = inputs_of(tiny, part, some, MaskPatches(0.5), draws=drawn)
        assert apart["pixel_values"].equal(by_row.select(order).inputs["pixel_values"])
    for other in (draws._replace(seed=6), draws._replace(step=8)):
        changed, _ = inputs_of(
            tiny, encode(tiny.processor, rows, texts), rows, MaskPatches(0.5), draws=other
        )
        assert not changed["pixel_values"].equal(together["pixel_values"])


@pytest.mark.parametrize("per", ["response", "prompt"])
def test_responses_to_one_prompt_share_a_draw_or_not(tiny, responses, rows, per):  # T15
    changed, _ = inputs_of(tiny, responses, rows, MaskPatches(0.5, per=per))
    first, second = (
        replace(responses, inputs=changed).select([row]).inputs["pixel_values"] for row in (0, 1)
    )
    assert first.equal(second) == (per == "prompt")


def test_images_of_one_row_are_drawn_apart(tiny):
    row = digits.rows(1)[0]
    row["images"] = row["images"] * 2
    responses = encode(tiny.processor, [row], [" one"])
    changed, _ = inputs_of(tiny, responses, [row], MaskPatches(0.5))
    first, second = changed["pixel_values"].chunk(2)
    assert not first.equal(second)


def test_prompts_are_named_by_id_or_by_content(rows):
    assert Draws.of(rows, 3, 4) == Draws(3, 4, [r["id"] for r in rows], [0, 1, 0, 1])
    bare = [{k: v for k, v in row.items() if k != "id"} for row in rows]
    first, again, second, _ = Draws.of(bare).prompts
    assert first == again != second
    other = {**bare[0], "images": [bare[0]["images"][0].point(lambda v: 255 - v)]}
    assert Draws.of([other]).prompts[0] != first


def test_scores_do_not_depend_on_the_split_of_the_batch(tiny, responses, rows):  # T14, T30
    views = {"patches": MaskPatches(0.5), "noise": AddNoise(0.2), "blur": GaussianBlur(2.0)}
    more = {"processor": tiny.processor, "draws": Draws.of(rows)}
    together = score_views(tiny.model, responses, views, **more)
    for chunk_rows in (1, 3):
        apart = score_views(tiny.model, responses, views, chunk_rows=chunk_rows, **more)
        for name in views:
            assert_close(
                apart.views[name].log_ratio, together.views[name].log_ratio, atol=1e-5, rtol=0
            )
            assert together.views[name].log_ratio.abs().max() > 1e-3


def test_the_processor_is_not_called_again(tiny, responses, rows):  # T13
    halves = tiny.processor.image_processor
    fixed = SimpleNamespace(
        image_processor=SimpleNamespace(
            do_normalize=True, image_mean=halves.image_mean, image_std=halves.image_std
        )
    )  # cannot be called
    views = {"patches": MaskPatches(0.5), "noise": AddNoise(0.2)}
    score_views(tiny.model, responses, views, processor=fixed, draws=Draws.of(rows))


# --- other views


def test_other_image_is_the_next_rows_picture_in_this_ones_place(tiny, responses, rows):
    changed, clean = inputs_of(tiny, responses, rows, OtherImage())
    before, after = pixels_of(tiny, clean), pixels_of(tiny, changed)
    # rows 0 and 1 show one picture, so both are given the first of row 2; of its two pictures the
    # first is followed by a larger one, the last of row 3 by row 0's
    assert_close(after[0], before[2], atol=1e-5, rtol=0)
    assert_close(after[1], before[2], atol=1e-5, rtol=0)
    assert [image.shape for image in after] == [image.shape for image in before]
    # never another image of the same row: row 2 shows p and q and is followed by row 3, which
    # shows the same, so p gets row 3's q, and q row 3's p
    small = torch.nn.functional.interpolate(
        before[3][None], tuple(before[2].shape[1:]), mode="bilinear", antialias=True
    )[0]
    assert_close(after[2], small.clamp(0, 1), atol=1e-5, rtol=0)
    pair = [rows[0], rows[2]]
    both, _ = inputs_of(tiny, encode(tiny.processor, pair, [" one", " two"]), pair, OtherImage())
    assert_close(pixels_of(tiny, both)[1], before[0], atol=1e-5, rtol=0)  # and not q
    alone = encode(tiny.processor, rows[:2], [" one", " two"])
    with pytest.raises(ValueError, match="OtherImage needs rows with different images"):
        inputs_of(tiny, alone, rows[:2], OtherImage())


def test_text_only_prompt_is_the_prompt_without_an_image(tiny, rows):  # T2
    texts = [" three four", " six"]
    some = [rows[0], rows[2]]
    scored = score_views(
        tiny.model, encode(tiny.processor, some, texts), {"text": TextOnlyPrompt()}
    )
    bare = [{**row, "images": []} for row in some]
    expected = score_views(tiny.model, encode(tiny.processor, bare, texts), {}).log_probs
    found = scored.log_probs + scored.views["text"].log_ratio
    assert_close(found, expected, atol=1e-5, rtol=0)
    blind = score_views(tiny.model, encode(tiny.processor, some, texts), {"b": Blind()})
    assert (blind.log_probs + blind.views["b"].log_ratio - found).abs().max() > 0.01


# --- never in silence


def test_a_view_that_changes_nothing_raises(tiny, rows):  # T7
    black = [{**row, "images": [Image.new("RGB", (48, 32))]} for row in rows[:2]]
    responses = encode(tiny.processor, black, [" three", " four"])
    more = {"processor": tiny.processor, "draws": Draws.of(black)}
    with pytest.raises(ValueError, match=r"view 'same' changed no pixel .* black already"):
        score_views(tiny.model, responses, {"same": MaskPatches(0.5)}, **more)
    # one that changes some of the images is no error
    mixed = [black[0], rows[2]]
    responses = encode(tiny.processor, mixed, [" three", " four"])
    more["draws"] = Draws.of(mixed)
    scored = score_views(tiny.model, responses, {"v": MaskPatches(0.5)}, chunk_rows=1, **more)
    assert not scored.views["v"].log_ratio[0].any() and scored.views["v"].log_ratio[1].any()


def test_what_a_view_needs_is_named(tiny, responses, rows):
    def score(view, **more):
        return score_views(tiny.model, responses, {"v": view}, **more)

    with pytest.raises(ValueError, match="view 'v': MaskPatches needs processor="):
        score(MaskPatches())
    with pytest.raises(ValueError, match=r"view 'v': AddNoise needs draws=, for example Draws.of"):
        score(AddNoise(), processor=tiny.processor)
    bare = replace(responses, pictures=None)
    with pytest.raises(ValueError, match=r"must hold them in Encoded\.pictures"):
        score_views(
            tiny.model,
            bare,
            {"v": MaskPatches(grid="source")},
            processor=tiny.processor,
            draws=Draws.of(rows),
        )
    with pytest.raises(TypeError, match="view 'v' is a View; known are Blind"):
        score(View())
    with pytest.raises(ValueError, match=r"wanted must be one per row, \(4,\), got \(3,\)"):
        score(Blind(), wanted=torch.ones(3).bool())
    with pytest.raises(ValueError, match="of 4 rows, got 2 prompts and 2 responses"):
        score(MaskPatches(), processor=tiny.processor, draws=Draws.of(rows[:2]))


def test_rows_nobody_reads_are_not_scored(tiny, responses, rows):  # T31
    wanted = torch.tensor([True, False, True, False])
    views = {"blind": Blind(), "patches": MaskPatches(0.5)}
    more = {"processor": tiny.processor, "draws": Draws.of(rows)}
    everything = score_views(tiny.model, responses, views, **more)
    some = score_views(tiny.model, responses, views, wanted=wanted, **more)
    assert_close(some.log_probs[wanted], everything.log_probs[wanted], atol=1e-5, rtol=0)
    assert not some.log_probs[~wanted].any()
    for name in views:
        found, expected = some.views[name].log_ratio, everything.views[name].log_ratio
        assert_close(found[wanted], expected[wanted], atol=1e-5, rtol=0)
        assert not found[~wanted].any()
        assert expected[~wanted].any()


def test_a_picture_inside_a_prompt_names_it_by_its_pixels(rows):
    picture = rows[0]["images"][0]

    def named(part):
        row = {"prompt": [{"role": "user", "content": [{"type": "image", "image": part}]}]}
        return Draws.of([row]).prompts

    assert named(picture) == named(picture.copy()) != named(picture.point(lambda v: 255 - v))
    with pytest.raises(ValueError, match="a prompt with a object needs an id"):
        named(object())
