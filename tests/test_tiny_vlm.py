"""The tiny VLM is the real architecture with the real processor."""

import copy

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline import tiny_vlm
from sightline.encoding import encode
from sightline.tasks import digits


def test_every_word_of_the_corpus_is_one_token(tiny):
    tokenizer = tiny.processor.tokenizer
    for word in (" three", " eighteen", " digit", " whereas"):
        assert len(tokenizer(word)["input_ids"]) == 1


def test_any_text_survives_the_tokenizer(tiny):
    tokenizer = tiny.processor.tokenizer
    for text in ("zebra çédille 漢字 🙂", "<|im_end|> \\boxed{1}", "a\tb\n\nc  d"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_same_corpus_and_seed_give_the_same_model():
    words = list(digits.corpus())
    first, second = tiny_vlm.build_processor(words), tiny_vlm.build_processor(reversed(words))
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    a, b, c = (tiny_vlm.build_model(first, seed) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.lm_head.weight, c.lm_head.weight)


def test_building_leaves_the_global_generator_alone():
    processor = tiny_vlm.build_processor(["a"])
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    tiny_vlm.build_model(processor, seed=5)
    assert torch.equal(torch.rand(1), expected)


def test_it_is_small_and_without_dropout(tiny):
    assert 1e6 < sum(p.numel() for p in tiny.model.parameters()) < 3e6
    assert not any(isinstance(m, torch.nn.Dropout) and m.p for m in tiny.model.modules())


def test_it_reloads_from_a_folder_as_any_checkpoint_does(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.processor.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    rows = digits.rows(2)
    inputs = encode(processor, rows, [" three", " four"]).inputs
    again = encode(tiny.processor, rows, [" three", " four"]).inputs
    assert all(torch.equal(inputs[name], again[name]) for name in again)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, tiny.model(**inputs).logits)


def test_an_image_becomes_one_token_per_merged_cell(tiny):
    row = digits.rows(1)[0]
    ids = encode(tiny.processor, [row]).inputs["input_ids"]
    assert int((ids == tiny.model.config.image_token_id).sum()) == (48 // 16) * (32 // 16)


def test_pixels_reach_the_logits(tiny):
    row = digits.rows(1)[0]
    other = copy.copy(row) | {"images": digits.rows(2)[1]["images"]}
    with torch.no_grad():
        a, b = (
            tiny.model(**encode(tiny.processor, [r]).inputs).logits[0, -1] for r in (row, other)
        )
    assert (a - b).abs().max() > 1e-3
