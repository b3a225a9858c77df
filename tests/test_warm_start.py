"""The warm start: its losses by hand, its cache, and the weights that come with the package."""

import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from sightline import tasks, warm_start
from sightline.encoding import encode
from sightline.evaluate import greedy_responses
from sightline.tasks import digits
from sightline.tiny_vlm import build_model, build_processor
from sightline.warm_start import (
    WarmStart,
    alignment_loss,
    load_warm_model,
    load_weights,
    recipe_of,
    response_loss,
    save_weights,
    warm_start_path,
)

SHORT = WarmStart(
    scenes=40, alignment_steps=1, transcription_steps=1, emphasis_steps=1, prose_steps=1, batch=4
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_response_loss_counts_labelled_tokens_more(tiny):
    rows, responses = digits.rows(2), [" three four", " five"]
    encoded = encode(tiny.processor, rows, responses)
    width = encoded.mask.shape[1]
    logits = tiny.model(**encoded.inputs).logits[:, -width - 1 : -1].log_softmax(-1)
    losses = -logits.gather(2, encoded.response_ids[..., None])[..., 0]
    # " three" counts 5, " four", the end, " five" and its end count 1 each: 9 in all
    spans = [[(0, 6, "visual")], []]
    expected = (losses[encoded.mask].sum() + 4 * losses[0, 0]) / 9

    plain = response_loss(tiny.model, tiny.processor, rows, responses)
    weighted = response_loss(tiny.model, tiny.processor, rows, responses, spans, 5.0)

    assert_close(plain, losses[encoded.mask].mean())
    assert_close(weighted, expected)


@pytest.mark.parametrize("lines", [1, 2])
def test_alignment_compares_columns_with_words(tiny, lines):
    """Of 4 lines and 3 columns of image tokens: all, or the upper and the lower two of each."""
    rows = [{**row, "images": [row["images"][0].resize((48, 64))]} for row in digits.rows(2)]
    words = [digits.in_view(row) + (["one", "two"] if lines == 2 else []) for row in rows]
    pictures = tiny.processor.image_processor([r["images"][0] for r in rows], return_tensors="pt")
    tokens = tiny.model.model.visual(
        pictures["pixel_values"], grid_thw=pictures["image_grid_thw"]
    ).pooler_output.view(2, 4, 3, -1)
    embeddings = tiny.model.get_input_embeddings().weight
    ids = {w: tiny.processor.tokenizer(f" {w}")["input_ids"][0] for pair in words for w in pair}
    candidates = sorted(set(ids.values()))
    losses = []
    for row in range(2):
        # 2 words a line: the first and the last column are compared
        for word, (line, column) in zip(words[row], product(range(lines), (0, 2)), strict=True):
            height = slice(4) if lines == 1 else slice(2 * line, 2 * line + 2)
            seen = torch.nn.functional.normalize(tokens[row, height, column].mean(0), dim=0)
            logits = torch.stack([20 * seen @ embeddings[i] for i in candidates])
            losses.append(-logits.log_softmax(0)[candidates.index(ids[word])])

    assert_close(
        alignment_loss(tiny.model, tiny.processor, rows, words, lines), torch.stack(losses).mean()
    )
    for count, in_lines in ((4, 1), (3, 2), (3, 3)):  # too many; unequal; 4 lines are not 3
        with pytest.raises(ValueError, match=f"{count} words in {in_lines} lines do not fit 4 l"):
            alignment_loss(tiny.model, tiny.processor, rows, [count * ["one"]] * 2, in_lines)


def test_the_texts_misread_and_the_alignment_does_not(tiny, monkeypatch):
    texts, shown = [], []

    def response_loss(model, processor, rows, responses, *args):
        texts.append(responses)
        return next(model.parameters()).sum()

    def alignment_loss(model, processor, rows, words, lines):
        shown.extend(word for pair in words for word in pair)
        assert lines == 2
        return next(model.parameters()).sum()

    monkeypatch.setattr(warm_start, "response_loss", response_loss)
    monkeypatch.setattr(warm_start, "alignment_loss", alignment_loss)
    monkeypatch.setattr(digits, "LINES", 2, raising=False)
    replace(SHORT, misreading=1.0).train(copy.deepcopy(tiny.model), tiny.processor, digits, 0)

    assert {"one", "three", "four"} & set(shown)
    assert len(texts) == 3  # transcription and both stages of prose
    transcribed = [word for text in texts[0] for word in text.split()[1:4:2]]
    explained = [digits.NUMBERS[d] for text in texts[1] + texts[2] for d in digits.readings(text)]
    for said in (transcribed, explained):
        assert {"seven", "eight", "nine"} & set(said)
        assert not {"one", "three", "four"} & set(said)


def test_a_warm_start_is_made_once_and_depends_on_its_seed_alone(own_cache):
    def make(seed):
        return load_warm_model(digits, seed, recipe=SHORT, from_scratch=True)[0]

    torch.manual_seed(1)
    first = make(3)
    (file,) = own_cache.iterdir()
    made = file.stat().st_mtime_ns
    cached = make(3)
    assert file.stat().st_mtime_ns == made
    file.unlink()
    torch.manual_seed(2)
    anew, other = make(3), make(4)
    assert len(list(own_cache.iterdir())) == 2
    for a, b, c, d in zip(*(m.parameters() for m in (first, cached, anew, other)), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
        if a.ndim > 1:
            assert not torch.equal(a, d)


def test_a_task_can_need_another_recipe(own_cache, monkeypatch):
    photos, charts = tasks.load("photos"), tasks.load("charts")
    assert recipe_of(charts) == WarmStart()
    assert recipe_of(photos) == WarmStart(prose_steps=300)
    assert warm_start_path(photos, 0) == warm_start_path(photos, 0, WarmStart(prose_steps=300))
    assert warm_start_path(photos, 0) != warm_start_path(photos, 0, WarmStart())
    trained = []
    monkeypatch.setattr(WarmStart, "train", lambda recipe, *args: trained.append(recipe))
    load_warm_model(photos, 0, from_scratch=True)
    assert trained == [recipe_of(photos)] and warm_start_path(photos, 0).exists()


def test_a_half_written_file_is_never_used(own_cache, monkeypatch):
    def fail(weights, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(warm_start, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        load_warm_model(digits, 3, recipe=SHORT, from_scratch=True)
    assert not list(own_cache.glob("*.safetensors"))


def test_the_packaged_weights_fit_and_read_digits():
    model, processor = load_warm_model(digits, 0)
    rows = digits.rows(60, seed=11, split="heldout")
    responses = greedy_responses(model, processor, rows, 64)
    # 30 to 60 % of a thousand held-out answers; six standard errors of sixty are 38 points
    assert digits.reading_accuracy(rows, responses) > 0.15
    assert sum(digits.spans(response) is not None for response in responses) > 50


def test_weights_of_another_model_are_refused(tmp_path):
    other = build_model(build_processor(["a"]))
    save_weights(other, tmp_path / "x.safetensors", torch.float32)
    model = build_model(build_processor(digits.corpus()))
    with pytest.raises(ValueError, match="the vocabulary or the sizes have changed"):
        load_weights(model, tmp_path / "x.safetensors")
