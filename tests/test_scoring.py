"""The scorer against a plain forward pass, and Blind's two forms against each other."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from sightline import Blind, MaskPatches, OtherImage, scoring
from sightline.draws import Draws
from sightline.encoding import Encoded, encode
from sightline.families import QwenVL
from sightline.scoring import score_views
from sightline.tasks import digits

BLIND = {"blind": Blind()}


def _score(model, responses, **kwargs):
    return score_views(model, responses, BLIND, **kwargs).views["blind"]


@pytest.fixture
def rows():
    """Rows with 1, 1, 0 and 2 images, of several sizes."""
    made = digits.rows(4, seed=3)
    made[1]["images"] = [made[1]["images"][0].resize((96, 32))]
    made[2]["images"] = []
    made[3]["images"] = [made[3]["images"][0], made[0]["images"][0].resize((32, 64))]
    return made


@pytest.fixture
def responses(tiny, rows):
    texts = [" three", "<think> the left digit is four </think>", " one two three", " six"]
    return encode(tiny.processor, rows, texts)


def test_log_probs_are_those_of_a_plain_forward_at_the_temperature(tiny, responses):
    width = responses.mask.shape[1]
    logits = tiny.model(**responses.inputs).logits[:, -width - 1 : -1] / 0.7
    expected = logits.log_softmax(-1).gather(2, responses.response_ids[..., None])[..., 0]

    scored = score_views(tiny.model, responses, {}, temperature=0.7)

    assert_close(scored.log_probs, expected.detach().masked_fill(~responses.mask, 0))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_dropped_image_tokens_equal_masked_ones(tiny, responses, attention):
    tiny.model.set_attn_implementation(attention)
    views = {"drop": Blind(by="drop"), "mask": Blind(by="mask")}

    scored = score_views(tiny.model, responses, views, exact_kl=True).views

    tiny.model.set_attn_implementation("sdpa")
    assert_close(scored["drop"].log_ratio, scored["mask"].log_ratio, atol=1e-5, rtol=0)
    assert_close(scored["drop"].kl, scored["mask"].kl, atol=1e-5, rtol=0)
    assert scored["drop"].log_ratio[0].abs().max() > 0.1  # there is something to agree on


def test_blind_equals_an_attention_mask_of_our_own(tiny, rows):
    # the oracle: the whole sequence, a hand-made 4-D mask whose image columns nobody attends to
    responses = encode(tiny.processor, rows[:1], ["<think> three and four </think>"])
    ids = responses.inputs["input_ids"]
    length, width = ids.shape[1], responses.mask.shape[1]
    image = ids[0] == tiny.model.config.image_token_id
    allowed = torch.ones(length, length).tril().bool() & ~image
    allowed |= torch.eye(length).bool()
    positions, _ = tiny.model.model.get_rope_index(
        ids, responses.inputs["mm_token_type_ids"], responses.inputs["image_grid_thw"]
    )
    logits = tiny.model(
        input_ids=ids,
        pixel_values=responses.inputs["pixel_values"],
        image_grid_thw=responses.inputs["image_grid_thw"],
        position_ids=positions,
        attention_mask=torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None],
        use_cache=False,
    ).logits[:, -width - 1 : -1]
    expected = logits.log_softmax(-1).gather(2, responses.response_ids[..., None])[..., 0]

    scored = score_views(tiny.model, responses, BLIND)

    blind = scored.log_probs + scored.views["blind"].log_ratio
    assert_close(blind, expected.detach(), atol=1e-5, rtol=0)


def test_blind_with_recomputed_positions_is_another_quantity(tiny, responses):
    # T2: numbered from what is left, later tokens move closer to the start
    first = responses.select([0])
    ids = first.inputs["input_ids"]
    text = ids[:, ids[0] != tiny.model.config.image_token_id]
    width = first.mask.shape[1]
    logits = tiny.model(input_ids=text, attention_mask=torch.ones_like(text)).logits
    renumbered = (
        logits[:, -width - 1 : -1].log_softmax(-1).gather(2, first.response_ids[..., None])[..., 0]
    )

    scored = score_views(tiny.model, first, BLIND)

    blind = scored.log_probs + scored.views["blind"].log_ratio
    assert (blind - renumbered).abs().max() > 0.01


def test_one_of_two_images_is_hidden_and_the_other_is_seen(tiny, rows):
    texts, views = [" three four"], {"first": Blind(image=0), "second": Blind(image=1)}
    black = [Image.new("RGB", picture.size) for picture in rows[3]["images"]]
    first, second = rows[3]["images"]
    found = []
    for images in ([first, second], [black[0], second], [first, black[1]]):
        responses = encode(tiny.processor, [{**rows[3], "images": images}], texts)
        scored = score_views(tiny.model, responses, views)
        found.append({n: scored.log_probs + v.log_ratio for n, v in scored.views.items()})
    own, without_first, without_second = found
    # what is hidden may be anything, and the other image may not
    assert_close(without_first["first"], own["first"], atol=1e-5, rtol=0)
    assert_close(without_second["second"], own["second"], atol=1e-5, rtol=0)
    assert (without_second["first"] - own["first"]).abs().max() > 1e-3
    assert (without_first["second"] - own["second"]).abs().max() > 1e-3


def test_hiding_the_only_image_is_hiding_all_and_hiding_the_next_is_hiding_none(tiny, rows):
    responses = encode(tiny.processor, rows[:1], ["<think> three and four </think>"])
    views = {"all": Blind(), "first": Blind(image=0), "second": Blind(image=1)}
    scored = score_views(tiny.model, responses, views).views
    assert_close(scored["first"].log_ratio, scored["all"].log_ratio, atol=1e-5, rtol=0)
    assert scored["all"].log_ratio.abs().max() > 0.1
    assert_close(scored["second"].log_ratio, torch.zeros_like(scored["all"].log_ratio))


def test_blind_does_not_depend_on_pixels(tiny, rows):
    # T5: with two images, changing either one leaves the blind log-probs as they are
    texts = [" three four"]
    black = [Image.new("RGB", picture.size) for picture in rows[3]["images"]]
    blind = []
    for images in (rows[3]["images"], [black[0], rows[3]["images"][1]], black):
        responses = encode(tiny.processor, [{**rows[3], "images": images}], texts)
        scored = score_views(tiny.model, responses, BLIND)
        blind.append(scored.log_probs + scored.views["blind"].log_ratio)

    assert_close(blind[1], blind[0])
    assert_close(blind[2], blind[0])


def test_a_row_without_an_image_scores_exactly_zero_and_costs_no_pass(tiny, rows, monkeypatch):
    # T6
    text_only = encode(tiny.processor, [rows[2]], [" three"])
    passes = []
    forward = tiny.model.forward
    monkeypatch.setattr(tiny.model, "forward", lambda *a, **k: passes.append(1) or forward(*a, **k))

    scored = score_views(tiny.model, text_only, BLIND, exact_kl=True)

    assert len(passes) == 1  # the clean one
    assert not scored.views["blind"].log_ratio.any()
    assert not scored.views["blind"].kl.any()
    assert scored.log_probs.any()


def test_rows_do_not_depend_on_their_company(tiny, responses):
    together = _score(tiny.model, responses)
    for chunk_rows in (1, 2, 3):
        apart = _score(tiny.model, responses, chunk_rows=chunk_rows)
        assert_close(apart.log_ratio, together.log_ratio, atol=1e-5, rtol=0)


def test_padding_changes_nothing(tiny, responses):
    pad = tiny.processor.tokenizer.pad_token_id
    left, right = 3, 2
    wide = {
        name: torch.nn.functional.pad(
            responses.inputs[name], (left, right), value=pad if name == "input_ids" else 0
        )
        for name in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    widened = Encoded(
        responses.inputs | wide,
        torch.nn.functional.pad(responses.response_ids, (0, right), value=pad),
        torch.nn.functional.pad(responses.mask, (0, right)),
        responses.num_images,
    )

    scored, expected = _score(tiny.model, widened), _score(tiny.model, responses)

    assert_close(scored.log_ratio[:, :-right], expected.log_ratio, atol=1e-5, rtol=0)
    assert not scored.log_ratio[:, -right:].any()


def test_exact_kl_is_that_of_full_logits(tiny, rows):
    responses = encode(tiny.processor, rows[:1], [" three four"])
    width = responses.mask.shape[1]
    clean = tiny.model(**responses.inputs).logits[0, -width - 1 : -1].log_softmax(-1)
    hidden = dict(responses.inputs)
    positions, _ = tiny.model.model.get_rope_index(
        hidden["input_ids"], hidden["mm_token_type_ids"], hidden["image_grid_thw"]
    )
    image = hidden["input_ids"] == tiny.model.config.image_token_id
    blind = (
        tiny.model(
            input_ids=hidden["input_ids"],
            attention_mask=(~image).long(),
            position_ids=positions,
        )
        .logits[0, -width - 1 : -1]
        .log_softmax(-1)
    )
    expected = (clean.exp() * (clean - blind)).sum(-1)

    scored = _score(tiny.model, responses, exact_kl=True)

    assert_close(scored.kl[0], expected.detach(), atol=1e-5, rtol=1e-4)


def test_the_model_comes_back_as_it_was(tiny, responses):
    tiny.model.train()
    _score(tiny.model, responses)
    assert tiny.model.training
    assert not tiny.model.model._forward_hooks
    tiny.model.eval()


def test_inputs_are_not_modified(tiny, responses):
    before = {name: value.clone() for name, value in responses.inputs.items()}
    _score(tiny.model, responses)
    for name, value in before.items():
        assert torch.equal(responses.inputs[name], value)


def test_a_wrong_placeholder_id_is_named(tiny, responses, monkeypatch):
    # T4
    monkeypatch.setattr(tiny.model.config, "image_token_id", 5)
    with pytest.raises(ValueError, match=r"row 0 has 1 image.*holds 0 tokens with id 5"):
        _score(tiny.model, responses)


def test_one_placeholder_too_few_is_named(tiny, responses):
    # T54
    ids = responses.inputs["input_ids"].clone()
    row, column = (ids == tiny.model.config.image_token_id).nonzero()[-1].tolist()
    ids[row, column] = 7
    broken = Encoded(
        {**responses.inputs, "input_ids": ids},
        responses.response_ids,
        responses.mask,
        responses.num_images,
    )
    with pytest.raises(ValueError, match=f"row {row} has 2 image.*14 image tokens.*holds 13"):
        _score(tiny.model, broken)


def test_a_sampled_image_token_is_named(tiny, responses):
    # T55
    ids = responses.response_ids.clone()
    ids[1, 2] = tiny.model.config.image_token_id
    broken = Encoded(responses.inputs, ids, responses.mask, responses.num_images)
    with pytest.raises(ValueError, match="response 1 holds the image token"):
        _score(tiny.model, broken)


def test_an_unknown_family_is_refused(tiny, responses, monkeypatch):
    monkeypatch.setattr(tiny.model.config, "model_type", "llava")
    with pytest.raises(ValueError, match="'llava'"):
        _score(tiny.model, responses)


def test_video_is_refused(tiny, responses):
    ids = responses.inputs["input_ids"].clone()
    ids[0, -1] = tiny.model.config.video_token_id
    broken = Encoded(
        {**responses.inputs, "input_ids": ids},
        responses.response_ids,
        responses.mask,
        responses.num_images,
    )
    with pytest.raises(ValueError, match="video"):
        _score(tiny.model, broken)


def test_a_head_that_is_more_than_its_weight_is_refused(tiny, responses, monkeypatch):
    # LoRA on lm_head: its weight alone would give other log-probs than the model has
    class Adapted(torch.nn.Linear):
        pass

    monkeypatch.setattr(tiny.model, "get_output_embeddings", lambda: Adapted(128, 9))
    with pytest.raises(TypeError, match="got Adapted: leave lm_head out of LoRA"):
        _score(tiny.model, responses)


def test_a_part_frozen_in_evaluation_mode_stays_so(tiny, responses):
    tiny.model.train()
    tiny.model.model.visual.eval()
    _score(tiny.model, responses)
    assert tiny.model.training and not tiny.model.model.visual.training
    tiny.model.eval()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_rows": -1}, "chunk_rows must be at least 1, got -1"),
        ({"views": [Blind()]}, "views must map names to views, got a list"),
    ],
)
def test_wrong_arguments_are_named(tiny, responses, change, message, annotations_off):
    with pytest.raises(ValueError, match=message):
        score_views(**{"model": tiny.model, "responses": responses, "views": BLIND, **change})


def test_a_mask_of_numbers_is_refused(tiny, responses, annotations_off):
    counted = replace(responses, mask=responses.mask.long())
    with pytest.raises(ValueError, match=r"mask must be boolean, got torch.int64"):
        score_views(tiny.model, counted, BLIND)


def test_the_noise_floor_covers_every_view_that_can_be_drawn_again(
    tiny, responses, rows, monkeypatch
):
    more = {"processor": tiny.processor, "draws": Draws.of(rows), "noise_rows": 2}
    views = {"patches": MaskPatches(), "other": OtherImage()}
    assert score_views(tiny.model, responses, views, **more).noise_floor < 1e-5
    # drawn under other names, the same rows differ, and so the views are looked at
    monkeypatch.setattr(Draws, "select", lambda self, chosen: Draws.of(rows[2:] + rows[:2]))
    monkeypatch.setattr(scoring, "_check_lengths", lambda *args: None)
    assert score_views(tiny.model, responses, views, **more).noise_floor > 1e-3


def test_extras_are_those_of_full_logits(tiny, responses):
    scored = score_views(tiny.model, responses, BLIND, exact_kl=True, extras=True, temperature=0.7)
    width, one = responses.mask.shape[1], responses.select([0])
    masked = one.inputs["input_ids"] != tiny.model.config.image_token_id
    positions = QwenVL().position_ids(tiny.model, one.inputs)
    logits = [
        tiny.model(
            **{**one.inputs, "attention_mask": one.inputs["attention_mask"] * seen},
            position_ids=positions,
        ).logits[0, -width - 1 : -1][one.mask[0]]
        for seen in (torch.ones_like(masked), masked)
    ]
    p, q = ((x.detach().double() / 0.7).softmax(-1) for x in logits)
    middle = (p + q) / 2
    expected = {
        "entropy": -(p * p.log()).sum(-1),
        "view_entropy": -(q * q.log()).sum(-1),
        "reverse_kl": (q * (q / p).log()).sum(-1),
        "hellinger": 1 - (p * q).sqrt().sum(-1),
        "jensen_shannon": ((p * (p / middle).log()) + (q * (q / middle).log())).sum(-1) / 2,
    }
    assert set(scored.extras["blind"]) == set(expected)
    for name, values in expected.items():
        table = scored.extras["blind"][name]
        assert_close(table[0][one.mask[0]].double(), values, atol=1e-5, rtol=1e-4)
        assert not table[~responses.mask].any() and not table[2].any()  # padding, and no image
    with pytest.raises(ValueError, match="extras=True needs exact_kl=True"):
        score_views(tiny.model, responses, BLIND, extras=True)
