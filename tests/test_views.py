"""What each view does to pixels, and what its randomness hangs on."""

import dataclasses
import itertools

import pytest
import torch
from torch.testing import assert_close

from sightline import AddNoise, Blind, GaussianBlur, Gray, MaskPatches, PixelView
from sightline.views import draw_seed

VIEWS = (MaskPatches(), MaskPatches(unit="cell"), AddNoise(), GaussianBlur(), Gray())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(height=32, width=48):
    return torch.rand(3, height, width) * 0.5 + 0.25


def change(view, image, patch=8, merge=2, seed=0):
    return view.change(image, patch, merge, generator(seed))


@pytest.mark.parametrize("view", VIEWS, ids=repr)
def test_a_view_gives_a_new_picture_of_the_same_size(view):  # T7, T12, T17
    image = picture()
    before = image.clone()
    changed = change(view, image)
    assert changed.shape == image.shape and changed.dtype == image.dtype
    assert not changed.equal(image)
    assert (changed >= 0).all() and (changed <= 1).all()
    assert image.equal(before)


@pytest.mark.parametrize("view", VIEWS, ids=repr)
def test_the_same_generator_gives_the_same_picture(view):
    image = picture()
    assert change(view, image, seed=1).equal(change(view, image, seed=1))
    if isinstance(view, MaskPatches | AddNoise):
        assert not change(view, image, seed=1).equal(change(view, image, seed=2))


@pytest.mark.parametrize(("unit", "side"), [("patch", 8), ("cell", 16)])
def test_squares_are_whole_and_black_and_the_rest_is_untouched(unit, side):  # T9, T10
    image = picture(64, 96)
    changed = change(MaskPatches(0.5, unit), image)
    for top, left in itertools.product(range(0, 64, side), range(0, 96, side)):
        square = (slice(None), slice(top, top + side), slice(left, left + side))
        assert changed[square].equal(image[square]) or not changed[square].any()
    # one draw per unit, rows outer, columns inner
    draws = torch.rand(64 // side, 96 // side, generator=generator())
    assert (changed[0, ::side, ::side] == 0).equal(draws < 0.5)


def test_an_image_token_is_rarely_blind_where_patches_are_drawn():  # T9
    # 2 x 2 patches make a token: all four are black with probability 0.5 ** 4 = 0.0625
    image = torch.ones(3, 1600, 1600)
    for unit, expected in (("patch", 0.0625), ("cell", 0.5)):
        cells = change(MaskPatches(0.5, unit), image)[0].unfold(0, 16, 16).unfold(1, 16, 16)
        blind = (cells.amax((2, 3)) == 0).float().mean().item()
        # 10,000 tokens: four standard deviations are 0.02 at most
        assert abs(blind - expected) < 0.02


def test_squares_at_the_edge_are_cut():
    # 30 x 20 pixels in squares of 14: three rows, two columns; the last are 2 high and 6 wide.
    # Draws below 0.5 are black: (0, 0), (1, 1) and (2, 1), which is 0.49; 0.5 itself is not.
    #   14 * 14 + 14 * 6 + 2 * 6 = 292 of 600 pixels
    draws = torch.tensor([[0.1, 0.9], [0.6, 0.2], [0.5, 0.49]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda shape, generator: draws)
        changed = MaskPatches(0.5).change(torch.ones(3, 30, 20), 14, 2, generator())
    assert (changed[0] == 0).sum() == 292
    assert not changed[:, 28:, 14:].any() and changed[:, 28:, :14].all()


def test_all_of_the_squares():
    assert not change(MaskPatches(1.0), picture()).any()


def test_noise_has_its_standard_deviation_and_is_clipped():
    image = torch.full((3, 200, 200), 0.5)
    noise = change(AddNoise(0.1), image) - image
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.002)
    assert not noise[0].equal(noise[1])  # each channel has its own
    # std 189 of 255 saturates a mid-grey pixel half the time: P(|z| > 0.5 / 0.741) = 0.4999
    strong = change(AddNoise(189 / 255), image)
    assert ((strong == 0) | (strong == 1)).float().mean().item() == pytest.approx(0.4999, abs=0.01)


def test_blur_spreads_a_point_as_a_gaussian_and_keeps_a_flat_picture():
    point = torch.zeros(3, 41, 41)
    point[:, 20, 20] = 1
    blurred = change(GaussianBlur(2.0), point)
    # exp(-d^2 / 8) along rows and columns; the sum over -6..6 is 5.0081
    assert blurred[0, 20, 20].item() == pytest.approx(1 / 5.0081**2, rel=1e-3)
    ratio = (blurred[0, 20, 22] / blurred[0, 20, 20]).item()
    assert ratio == pytest.approx(0.606531, rel=1e-4)
    assert blurred[0].equal(blurred[0].T)
    assert_close(blurred.sum(), point.sum())
    flat = torch.full((3, 16, 24), 0.3)
    assert_close(change(GaussianBlur(6.0), flat), flat)


def test_gray_is_one_colour():
    assert change(Gray(), picture()).unique().tolist() == pytest.approx([128 / 255])


# --- seeds


def test_every_part_of_the_key_changes_the_draw():  # T14
    key = {"run_seed": 0, "step": 3, "prompt": "a", "response": 1, "image": 0, "view": "patches"}
    others = {"run_seed": 1, "step": 4, "prompt": "b", "response": 2, "image": 1, "view": "noise"}
    seeds = {draw_seed(**key)}
    seeds |= {draw_seed(**{**key, name: value}) for name, value in others.items()}
    seeds.add(draw_seed(**{**key, "response": None}))
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert draw_seed(**key) == draw_seed(**key)


def test_a_seed_is_the_same_on_every_machine():
    # a change of this number changes every run that is resumed across it
    assert draw_seed(0, 1, "a", None, 0, "x") == 6064816747343416141


# --- settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blind(image=-1), "image must be at least 0, got -1"),
        (lambda: Blind(by="drop", image=0), "one image is hidden by masking"),
        (lambda: Blind(by="skip"), r"by must be one of .*'drop'.*, got 'skip'"),
        (lambda: MaskPatches(1.5), r"probability must be in \(0, 1\], got 1.5"),
        (lambda: MaskPatches(0.0), r"probability must be in \(0, 1\], got 0.0"),
        (lambda: MaskPatches(unit="pixel"), r"unit must be one of .*, got 'pixel'"),
        (lambda: MaskPatches(grid="image"), r"grid must be one of .*, got 'image'"),
        (lambda: AddNoise(per="batch"), r"per must be one of .*, got 'batch'"),
        (lambda: AddNoise(0.0), r"std must be above 0 and finite, got 0.0"),
        (lambda: GaussianBlur(0.0), r"radius must be above 0 and finite, got 0.0"),
    ],
)
def test_a_wrong_setting_raises_with_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_defaults_are_the_papers():  # T15
    assert MaskPatches() == MaskPatches(0.5, "patch", grid="encoder", per="response")
    assert AddNoise() == AddNoise(0.1, grid="encoder", per="prompt")
    assert Blind().by == "auto"
    for view in VIEWS:
        assert isinstance(view, PixelView)
        with pytest.raises(dataclasses.FrozenInstanceError):
            view.grid = "source"
