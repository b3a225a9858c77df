"""Every family through its real classes: the scorer against a plain forward pass, and the views."""

from dataclasses import dataclass

import pytest
import torch
from PIL import Image
from tiny_families import BUILDERS, build
from torch.testing import assert_close

from sightline import Blind, MaskPatches, OtherImage, PixelView, TextOnlyPrompt
from sightline.draws import Draws
from sightline.encoding import encode
from sightline.families import FAMILIES, Family, family_of
from sightline.scoring import score_views
from sightline.tasks import digits

TEXTS = [" three", "<think> the left digit is four </think>", " six", " one two three"]
BOTH = {"auto": Blind(), "mask": Blind(by="mask")}


@pytest.fixture(scope="module", params=[*BUILDERS, "qwen2_5_vl"])
def family(request):
    if request.param == "qwen2_5_vl":
        return request.getfixturevalue("tiny")
    return build(request.param)


@pytest.fixture
def rows():
    """Rows of 1, 1, 2 and 0 images, of several sizes."""
    made = digits.rows(4, seed=3)
    made[1]["images"] = [made[1]["images"][0].resize((96, 32))]
    made[2]["images"] = [made[0]["images"][0], made[1]["images"][0]]
    made[3]["images"] = []
    return made


@pytest.fixture
def responses(family, rows):
    # families of tiles cannot put rows with and without images into one call of their processor
    count = 4 if family_of(family.model.config.model_type).drops else 3
    return encode(family.processor, rows[:count], TEXTS[:count])


def test_every_known_family_is_walked_through():
    assert sorted(FAMILIES) == sorted([*BUILDERS, "qwen2_5_vl"])


def test_log_probs_are_those_of_a_plain_forward(family, responses):  # T22, T42
    width = responses.mask.shape[1]
    logits = family.model(**responses.inputs).logits[:, -width - 1 : -1].float()
    expected = logits.log_softmax(-1).gather(2, responses.response_ids[..., None])[..., 0]
    scored = score_views(family.model, responses, {})
    assert_close(scored.log_probs[responses.mask], expected.detach()[responses.mask])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_blind_is_an_attention_mask_of_our_own(family, rows, attention):  # W1, T1, T2, T3
    # the oracle: the whole sequence and a 4-D mask whose image columns only see themselves
    config = family.model.config
    family.model.set_attn_implementation(attention)
    for row in rows[:3]:
        one = encode(family.processor, [row], ["<think> three and four </think>"])
        ids, width = one.inputs["input_ids"], one.mask.shape[1]
        image = family_of(config.model_type).find_image(config, ids)[0]
        assert image.any()
        allowed = torch.ones(len(image), len(image)).tril().bool() & ~image
        allowed |= torch.eye(len(image)).bool()
        mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]
        positions = family_of(config.model_type).position_ids(family.model, one.inputs)
        logits = family.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).logits[:, -width - 1 : -1]
        expected = logits.log_softmax(-1).gather(2, one.response_ids[..., None])[..., 0]

        scored = score_views(family.model, one, BOTH, exact_kl=True)

        for view in scored.views.values():
            assert_close(scored.log_probs + view.log_ratio, expected.detach(), atol=1e-5, rtol=0)
            assert view.kl.max() > 0.01  # the image does something
    family.model.set_attn_implementation("sdpa")


def test_one_of_several_images_is_hidden_alone(family, rows):
    one, views = rows[2], {"first": Blind(image=0)}
    responses = encode(family.processor, [one], ["<think> three and four </think>"])
    if not family_of(family.model.config.model_type).changes_pixels:
        with pytest.raises(ValueError, match="whose images come as tiles: hide them all"):
            score_views(family.model, responses, views)
        return
    black = [Image.new("RGB", picture.size) for picture in one["images"]]
    found = []
    for images in (one["images"], [black[0], one["images"][1]], [one["images"][0], black[1]]):
        responses = encode(
            family.processor, [{**one, "images": images}], ["<think> three and four </think>"]
        )
        scored = score_views(family.model, responses, views)
        found.append(scored.log_probs + scored.views["first"].log_ratio)
    assert_close(found[1], found[0], atol=1e-5, rtol=0)  # what is hidden may be anything
    assert (found[2] - found[0]).abs().max() > 1e-4


def test_rows_do_not_depend_on_their_company(family, responses):  # T20, T23
    together = score_views(family.model, responses, BOTH, exact_kl=True, noise_rows=3)
    apart = score_views(family.model, responses, BOTH, exact_kl=True, chunk_rows=1)
    assert_close(apart.log_probs, together.log_probs, atol=1e-5, rtol=0)
    for name in BOTH:
        assert_close(apart.views[name].log_ratio, together.views[name].log_ratio, atol=1e-5, rtol=0)
        assert_close(apart.views[name].kl, together.views[name].kl, atol=1e-5, rtol=0)
    assert together.noise_floor < 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_rows_score_as_padded_ones(family, responses, rows, attention):  # T1, T3, T20
    if not family_of(family.model.config.model_type).drops:
        with pytest.raises(ValueError, match="packed=True is not proven for"):
            score_views(family.model, responses, {}, packed=True)
        return
    family.model.set_attn_implementation(attention)
    views = {"blind": Blind(), "patches": MaskPatches(), "text": TextOnlyPrompt()}
    more = {"processor": family.processor, "draws": Draws.of(rows), "exact_kl": True}
    padded = score_views(family.model, responses, views, **more)

    packed = score_views(family.model, responses, views, packed=True, noise_rows=3, **more)

    family.model.set_attn_implementation("sdpa")
    assert_close(packed.log_probs, padded.log_probs, atol=1e-5, rtol=0)
    for name in views:
        assert_close(packed.views[name].log_ratio, padded.views[name].log_ratio, atol=1e-5, rtol=0)
        assert_close(packed.views[name].kl, padded.views[name].kl, atol=1e-5, rtol=0)
    assert packed.noise_floor < 1e-5
    with pytest.raises(ValueError, match=r"view 'mask': .* use Blind\(by='drop'\)"):
        score_views(family.model, responses, BOTH, packed=True)


def test_a_template_that_begins_with_the_image(family, rows):  # T3
    # nothing before the image: once it is dropped, no position of the row is 0
    config = family.model.config
    if not family_of(config.model_type).drops:
        return
    template = family.processor.chat_template
    bare = template.replace("<|im_start|>{{ message['role'] }}\n", "", 1)
    family.processor.chat_template = bare.replace("<|vision_start|>", "")
    responses = encode(family.processor, rows[:3], TEXTS[:3])
    family.processor.chat_template = template
    first = responses.inputs["attention_mask"].argmax(1, keepdim=True)
    assert (responses.inputs["input_ids"].gather(1, first) == config.image_token_id).all()
    together = score_views(family.model, responses, BOTH)
    packed = score_views(family.model, responses, {"blind": Blind()}, packed=True)
    for row in range(3):
        alone = score_views(family.model, responses.select([row]), BOTH)
        for other in (together.views["auto"], together.views["mask"], packed.views["blind"]):
            assert_close(other.log_ratio[[row]], alone.views["auto"].log_ratio, atol=1e-5, rtol=0)


def test_blind_does_not_depend_on_pixels(family, rows):  # T5, W2
    blind = []
    for images in (rows[2]["images"], [p.point(lambda v: 255 - v) for p in rows[2]["images"]]):
        one = encode(family.processor, [{**rows[2], "images": images}], [" three four"])
        scored = score_views(family.model, one, BOTH)
        blind += [scored.log_probs + view.log_ratio for view in scored.views.values()]
    for other in blind[1:]:
        assert_close(other, blind[0], atol=1e-5, rtol=0)


def test_a_view_of_pixels_runs_or_says_why_not(family, responses, rows):  # T12
    views = {"patches": MaskPatches(0.5), "other": OtherImage(), "text": TextOnlyPrompt()}
    more = {"processor": family.processor, "draws": Draws.of(rows[: len(responses.mask)])}
    kind = family.model.config.model_type
    for name, view in views.items():
        if family_of(kind).drops:
            scores = score_views(family.model, responses, {name: view}, **more).views[name]
            seen = torch.tensor([count > 0 for count in responses.num_images])
            assert (scores.log_ratio.abs().amax(1) > 1e-4).equal(seen)
        else:
            with pytest.raises(ValueError, match=f"not known for '{kind}'"):
                score_views(family.model, responses, {name: view}, **more)


@dataclass(frozen=True)
class DarkenTheWide(PixelView):
    """Leaves pictures of up to 48 pixels as they are."""

    def change(self, image, patch, merge, generator):
        return image / 2 if image.shape[2] > 48 else image


def test_an_unchanged_picture_scores_exactly_zero(family, responses, rows):  # T22, T40
    # in one batch with a changed one, as a view that changes nothing at all raises
    if not family_of(family.model.config.model_type).drops:
        return
    scores = score_views(
        family.model,
        responses,
        {"dark": DarkenTheWide()},
        processor=family.processor,
        draws=Draws.of(rows),
        exact_kl=True,
    ).views["dark"]
    changed = torch.tensor([False, True, True, False])
    for values in (scores.log_ratio, scores.kl):
        assert (values.abs().amax(1) > 0).equal(changed)


def test_a_family_nobody_has_proven_to_drop_is_not_dropped(family, responses):
    if not family_of(family.model.config.model_type).drops:
        with pytest.raises(ValueError, match=r"Blind\(by='drop'\) is not proven for"):
            score_views(family.model, responses, {"blind": Blind(by="drop")})


def test_an_unknown_family_is_told_what_to_write(monkeypatch):
    with pytest.raises(ValueError, match=r"family 'gemma9'; known: .*FAMILIES\['gemma9'\] = Fam"):
        family_of("gemma9")
    monkeypatch.setitem(FAMILIES, "gemma9", Family())
    assert family_of("gemma9") == Family()


def test_a_placeholder_too_few_is_named_in_every_family(family, responses):  # T4, T54
    config, ids = family.model.config, responses.inputs["input_ids"].clone()
    ids[0][family_of(config.model_type).find_image(config, ids)[0]] = 7
    broken = {**responses.inputs, "input_ids": ids}
    with pytest.raises(ValueError, match=r"row 0 has 1 image.*holds 0 tokens with id"):
        score_views(
            family.model,
            type(responses)(broken, responses.response_ids, responses.mask, responses.num_images),
            BOTH,
        )
