"""What `check` finds between rows and model."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from sightline.check.findings import OK, PROBLEM, WARNING
from sightline.check.prompts import BATCH_ROWS, Limit, Prompts, batches, cuts_image, limit_of
from sightline.check.reach import reach
from sightline.tasks import digits


def row(name, *sizes, question="what is the sum of the two digits ?"):
    images = [Image.new("RGB", size, "red") for size in sizes]
    return {"id": name, "prompt": [{"role": "user", "content": question}], "images": images}


def looked(tiny, rows, limit=None, response=8):
    seen = Prompts(tiny.processor, tiny.model.config, limit, response)
    kept = seen.look(rows)
    summaries = {f.kind: f for f in seen.findings() if not f.row}
    return [r["id"] for r in kept], summaries, [f for f in seen.findings() if f.row]


def test_good_prompts_have_no_finding(tiny):
    # 48 x 32 pixels are 3 x 2 cells of 16 x 16, one token each
    rows = [row("a", (48, 32)), row("b"), row("c", (48, 32), (32, 32))]
    kept, summaries, found = looked(tiny, rows)
    assert kept == ["a", "b", "c"] and found == []
    assert {f.severity for f in summaries.values()} == {OK}
    assert summaries["prompts.image-tokens"].numbers == {"rows": 3, "most": 10, "lost": 0}


def test_rows_are_measured_by_themselves_whatever_stands_beside_them(tiny):
    _, alone, _ = looked(tiny, [row("a", (48, 32))])
    tokens = alone["prompts.length"].numbers["longest"]
    rows = [row("c", (48, 32), (32, 32), question="what " * 90), row("a", (48, 32)), row("b")]
    _, summaries, _ = looked(tiny, rows)
    longest = summaries["prompts.length"].numbers["longest"]
    assert longest > tokens + 50 and summaries["prompts.image-tokens"].numbers["most"] == 10
    # a, padded to the length of c, has as many tokens as alone, and its image where it was
    for limit, inside in [(tokens - 5, True), (tokens - 1, False), (5, True)]:
        _, _, (_, cut, *_) = looked(tiny, rows, Limit("it", limit))
        assert cut.row == "a" and cut.numbers["tokens"] == tokens
        assert ("cuts inside an image" in cut.what) == inside
    kept, _, (long,) = looked(tiny, rows, Limit("it", tokens + 8))
    assert kept == ["a", "b"] and long.row == "c"


def test_image_tokens_that_the_scorer_cannot_find(tiny, monkeypatch):
    monkeypatch.setattr(tiny.model.config, "image_token_id", 5)
    kept, summaries, (found,) = looked(tiny, [row("a", (48, 32)), row("b")])
    assert kept == ["b"] and summaries["prompts.image-tokens"].severity == PROBLEM
    assert found.row == "a" and found.numbers == {"images": 1, "image_tokens": 0, "features": 6}
    assert "1 image(s) worth 6 image tokens, and its prompt holds 0" in found.what


def test_more_placeholders_than_features(tiny):
    asked = row("a", (48, 32), question="<|image_pad|>")
    kept, _, found = looked(tiny, [row("b", (32, 32)), asked])
    assert kept == ["b"] and [f.row for f in found] == ["a"]


def test_a_row_that_the_processor_refuses_is_found_among_others(tiny):
    # Qwen's processor takes no picture two hundred times as long as wide
    kept, summaries, (found,) = looked(tiny, [row("a", (48, 32)), row("b", (4020, 20)), row("c")])
    assert kept == ["a", "c"] and (found.row, found.kind) == ("b", "prompts.processor")
    assert "aspect ratio" in found.what
    assert summaries["prompts.processor"].numbers == {"rows": 3, "refused": 1}


def test_prompts_that_are_too_long_are_named_with_the_setting(tiny):
    _, summaries, _ = looked(tiny, [row("a", (48, 32))])
    tokens = summaries["prompts.length"].numbers["longest"]
    limit = Limit("--vllm_max_model_length", tokens + 8)
    _, summaries, found = looked(tiny, [row("a", (48, 32))], limit, response=8)
    assert found == [] and summaries["prompts.length"].severity == OK
    kept, _, (short,) = looked(tiny, [row("a", (48, 32))], limit, response=9)
    assert kept == ["a"] and short.severity == WARNING
    assert "leaves 8 of 9 tokens" in short.what
    kept, _, (none,) = looked(tiny, [row("a", (48, 32))], Limit("it", tokens), response=8)
    assert kept == ["a"] and none.severity == WARNING and "leaves 0 of 8 tokens" in none.what
    # one token less is lost at an end of the chat markup, where there is no image
    kept, _, (cut,) = looked(tiny, [row("a", (48, 32))], Limit("it", tokens - 1))
    assert kept == [] and cut.severity == PROBLEM and "cuts" not in cut.what
    # the six tokens of the image come before the text: a prompt shortened from the left by a few
    # loses the head of the chat markup, and then a part of the image
    kept, _, (cut,) = looked(tiny, [row("a", (48, 32))], Limit("it", tokens - 5))
    assert kept == [] and cut.severity == PROBLEM and "cuts inside an image" in cut.what
    assert "--max_pixels" in cut.do
    assert cut.numbers == {"tokens": tokens, "image_tokens": 6, "limit": tokens - 5}


def test_where_a_cut_goes_through_an_image():
    places = torch.tensor([0, 1, 1, 1, 0, 0, 0, 0]).bool()
    # leaving n tokens, from the left or from the right: between 2 and 3 as well as 6 and 5 of
    # eight fall between two image tokens
    assert [cuts_image(places, n) for n in range(1, 8)] == [0, 1, 1, 0, 1, 1, 0]


def test_the_lowest_limit_counts(tiny):
    args = SimpleNamespace(use_vllm=True, vllm_max_model_length=100)
    assert limit_of(tiny.model.config, args) == Limit("--vllm_max_model_length", 100)
    args.vllm_max_model_length = 5000
    name = "the model's max_position_embeddings"
    assert limit_of(tiny.model.config, args) == Limit(name, 1024)
    args.use_vllm, args.vllm_max_model_length = False, 100
    assert limit_of(tiny.model.config, args) == Limit(name, 1024)


def test_batches_are_small_in_rows_and_in_pixels():
    small = [row(str(n), (8, 8)) for n in range(BATCH_ROWS + 1)]
    assert [len(batch) for batch in batches(small)] == [BATCH_ROWS, 1]
    large = [row(str(n), (2000, 2500)) for n in range(3)]  # five million each, eight at most
    assert [len(batch) for batch in batches(large)] == [1, 1, 1]
    # five; then five and two
    mixed = [*large[:2], row("small", (1000, 2000))]
    assert [len(batch) for batch in batches(mixed)] == [1, 2]
    assert list(batches([])) == []


def severities(findings):
    return {finding.kind: finding.severity for finding in findings}


ANSWERS = ["\\boxed{7}", "\\boxed{11}"]


def test_an_image_that_reaches_the_model(tiny):
    found = reach(tiny.model, tiny.processor, digits.rows(2), ANSWERS)
    assert set(severities(found).values()) == {OK} and len(found) == 3
    assert found[0].numbers["largest"] > 100 * found[0].numbers["noise_floor"]


def test_pixels_that_do_not_reach_the_model(tiny, monkeypatch):
    # the tower gives the same for any picture, so that only the places of its tokens differ
    visual, forward = tiny.model.model.visual, tiny.model.model.visual.forward

    def ignores(hidden_states, **rest):
        return forward(torch.zeros_like(hidden_states), **rest)

    monkeypatch.setattr(visual, "forward", ignores)
    found = reach(tiny.model, tiny.processor, digits.rows(2), ANSWERS)
    assert severities(found) == {
        "model.dependency": OK,
        "model.pixels": PROBLEM,
        "model.noise-floor": OK,
    }


def test_a_dependency_of_zero_everywhere(tiny, monkeypatch):
    # no token looks at another one, hence none at the image
    for layer in tiny.model.model.language_model.layers:
        weight = layer.self_attn.o_proj.weight
        monkeypatch.setattr(weight, "data", torch.zeros_like(weight))
    dependency, pixels, _ = reach(tiny.model, tiny.processor, digits.rows(2), ANSWERS)
    assert (dependency.severity, pixels.severity) == (PROBLEM, PROBLEM)
    assert "dependency is 0 on all tokens: the image does not reach the model" in dependency.what


@pytest.mark.parametrize(("most", "severity"), [(0.0, PROBLEM), (0.1, PROBLEM), (0.3, OK)])
def test_what_the_noise_could_do_is_no_dependency(most, severity):
    from sightline.check.reach import _judged

    change = torch.tensor([0.0, most])
    assert _judged("model.dependency", change, 0.2, "", "0").severity == severity


def test_a_dependency_that_is_not_a_number_is_a_problem():
    from sightline.check.reach import _judged

    nan = float("nan")
    assert _judged("model.dependency", torch.tensor([nan]), 0.2, "", "0").severity == PROBLEM
    assert _judged("model.dependency", torch.tensor([1.0]), nan, "", "0").severity == PROBLEM
