"""Dice that are thrown by hand, and responses that hang on their own seeds alone."""

import pytest
import torch

from sightline.evaluate import greedy_responses, sampled_responses
from sightline.evaluate.sampling import DrawToken
from sightline.families import picture_tokens
from sightline.tasks import digits


def chosen(uniform, probabilities, banned=(), temperature=1.0, top_p=1.0):
    """The token that is left for this uniform number."""
    draw = DrawToken([0], 3, 1, banned, temperature, top_p)
    draw.uniform = torch.tensor([[uniform]], dtype=torch.float64)
    scores = draw(torch.zeros(1, 3, dtype=torch.long), torch.tensor([probabilities]).log())
    assert scores.isfinite().sum() == 1
    return int(scores.argmax())


@pytest.mark.parametrize(
    ("uniform", "settings", "token"),
    [
        # cumulative 0.5, 0.8, 1
        (0.0, {}, 0),
        (0.49, {}, 0),
        (0.51, {}, 1),
        (0.79, {}, 1),
        (0.81, {}, 2),
        (1 - 1e-16, {}, 2),
        (1.0, {}, 2),  # as a product may be rounded to
        # squares 0.25, 0.09, 0.04 of 0.38: cumulative 0.658, 0.895
        (0.65, {"temperature": 0.5}, 0),
        (0.67, {"temperature": 0.5}, 1),
        # without the third: 0.625, 1
        (0.62, {"top_p": 0.6}, 0),
        (0.63, {"top_p": 0.6}, 1),
        (0.99, {"top_p": 0.6}, 1),
        # without the first: 0, 0.6, 1
        (0.0, {"banned": [0]}, 1),
        (0.61, {"banned": [0]}, 2),
        # without the last: 0.625, 1, 1
        (1.0, {"banned": [2]}, 1),
    ],
)
def test_a_token_is_where_its_number_falls(uniform, settings, token):
    assert chosen(uniform, [0.5, 0.3, 0.2], **settings) == token


def test_each_row_and_step_has_a_number_of_its_own():
    draw = DrawToken([1, 2, 1], 3, 4, [], 1.0, 1.0)
    assert torch.equal(draw.uniform[0], draw.uniform[2])
    assert len(draw.uniform.unique()) == 8
    # steps are counted from the end of the prompt: the fourth column is the second step
    draw.uniform = torch.tensor([[0.1, 0.9]]).double()
    even = torch.zeros(1, 2)
    assert int(draw(torch.zeros(1, 3, dtype=torch.long), even).argmax()) == 0
    assert int(draw(torch.zeros(1, 4, dtype=torch.long), even).argmax()) == 1


def test_a_response_does_not_depend_on_its_neighbours(warm):
    rows = digits.rows(3, split="heldout")
    rows[1]["images"] *= 2  # another prompt length: padding on the left
    together = sampled_responses(warm.model, warm.processor, rows, [5, 6, 7], max_new_tokens=60)
    assert len({response.text for response in together}) == 3
    for row, seed, response in zip(rows, [5, 6, 7], together, strict=True):
        assert sampled_responses(warm.model, warm.processor, [row], [seed], max_new_tokens=60) == [
            response
        ]
    other = sampled_responses(warm.model, warm.processor, rows[:1], [8], max_new_tokens=60)
    assert other[0] != together[0]
    assert together[0].ended and together[0].tokens < 60 and "\\boxed" in together[0].text
    ids = warm.processor.tokenizer(together[0].text)["input_ids"]
    assert together[0].ids == [*ids, warm.processor.tokenizer.eos_token_id]
    cut = sampled_responses(warm.model, warm.processor, rows[:1], [5], max_new_tokens=4)[0]
    assert not cut.ended and cut.tokens == 4 and together[0].text.startswith(cut.text)
    assert cut.ids == together[0].ids[:4]


def test_what_the_checkpoint_says_of_sampling_is_not_heeded(warm, monkeypatch):
    rows = digits.rows(2, split="heldout")

    def ask(temperature):
        settings = {"temperature": temperature, "max_new_tokens": 20}
        return sampled_responses(warm.model, warm.processor, rows, [1, 2], **settings)

    found = [ask(1.0), ask(0.0)]
    config = warm.model.generation_config
    for name, value in {"repetition_penalty": 5.0, "temperature": 1e-6, "top_k": 1}.items():
        monkeypatch.setattr(config, name, value)
    monkeypatch.setattr(config, "do_sample", True)
    assert [ask(1.0), ask(0.0)] == found


def test_temperature_0_takes_the_likeliest_token(warm):
    rows = digits.rows(2, split="heldout")
    found = sampled_responses(
        warm.model, warm.processor, rows, [1, 2], temperature=0.0, max_new_tokens=20
    )
    expected = greedy_responses(warm.model, warm.processor, rows, 20)
    assert [response.text for response in found] == expected


def test_tokens_of_pictures_are_never_drawn(tiny, monkeypatch):  # T55
    pad = tiny.model.config.image_token_id
    assert pad in picture_tokens(tiny.model.config) and len(picture_tokens(tiny.model.config)) == 4
    head = tiny.model.lm_head

    def eager(states):
        logits = torch.nn.functional.linear(states, head.weight)
        logits[..., pad] = 1e4
        return logits

    monkeypatch.setattr(head, "forward", eager)
    rows = digits.rows(1)
    for temperature in (0.0, 1.0):
        found = sampled_responses(
            tiny.model, tiny.processor, rows, [1], temperature=temperature, max_new_tokens=3
        )
        assert found[0].text  # a picture token would be skipped
