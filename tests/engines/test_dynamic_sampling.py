"""Rounds of generation until groups differ, against what TRL makes of the same rows."""

import copy

import numpy as np
import pytest
import torch
from test_guards import Watch
from test_trl import (  # noqa: F401
    distance,
    make,
    passes_of_trl,
    rollout,
    same,
    trained,
    weights_of,
)
from torch.testing import assert_close
from two_processes import fill, run

from sightline import PGPO, Algorithm
from sightline.engines.trl import DynamicSampling
from sightline.tasks import digits

GROUP = 4


class Script:
    """A reward that says for each group in turn whether it differs, as a list of 0 and 1."""

    def __init__(self, differs):
        self.differs, self.asked = list(differs), []

    __name__ = "script"

    def __call__(self, completions, **columns):
        rewards = []
        for group in range(len(completions) // GROUP):
            differs = self.differs[len(self.asked) % len(self.differs)]
            self.asked.append(columns["id"][group * GROUP])
            rewards += [1.0, 0.0, 0.0, 1.0] if differs else [0.5] * GROUP
        return rewards


def scripted(make, differs, algorithm=None, rows=8, **settings):  # noqa: F811
    sampling = DynamicSampling(**settings.pop("sampling", {}))
    trainer = make(
        algorithm or PGPO(), rows=digits.rows(rows, seed=1), dynamic_sampling=sampling, **settings
    )
    script = Script(differs)
    trainer.reward_funcs = [script]
    return trainer, script


# two groups are wanted; rounds of two give, one after the other:
@pytest.mark.parametrize(
    ("differs", "kept", "rounds", "share", "spent"),
    [
        ([1, 1], [0, 1], 1, 1.0, 1.0),
        ([0, 1, 1, 0], [1, 2], 2, 0.5, 2.0),
        ([0, 1, 1, 1], [1, 2], 2, 0.75, 2.0),  # one too many is left over
        ([0, 0, 0, 1, 0, 0, 1, 1], [3, 6], 4, 0.375, 4.0),
    ],
)
def test_groups_that_differ_are_kept_in_their_order(make, differs, kept, rounds, share, spent):  # noqa: F811
    trainer, script = scripted(make, differs)
    batch = rollout(trainer)
    assert batch["row_ids"] == [script.asked[group] for group in kept for _ in range(GROUP)]
    # the rewards 1 0 0 1 of a group have mean 1/2 and deviation sqrt(1/3)
    expected = torch.tensor([1.0, -1.0, -1.0, 1.0] * 2) * 0.5 / (3**-0.5 + 1e-4)
    one_per_response = batch["advantages"].sum(1) / batch["completion_mask"].sum(1)  # PGPO keeps it
    assert_close(one_per_response, expected)
    assert batch["skip"] == [False] * 8
    logged = {
        name: trainer._metrics["train"][f"sampling/{name}"]
        for name in ("rounds", "differing_share", "generated_per_used")
    }
    assert logged == {"rounds": [rounds], "differing_share": [share], "generated_per_used": [spent]}


def test_what_was_kept_is_what_was_said(make, monkeypatch):  # noqa: F811
    # rows, responses and pictures of one response stay together through selection and replay
    trainer, _ = scripted(make, [0, 1, 1, 0])
    said = {}
    reward = trainer.reward_funcs[0]

    def remember(completions, **columns):
        for completion, row in zip(completions, columns["id"], strict=True):
            said.setdefault(row, []).append(completion[0]["content"])
        return reward(completions, **columns)

    trainer.reward_funcs = [remember]
    batch = rollout(trainer)
    texts = trainer._tokenizer.batch_decode(
        [
            ids[mask.bool()]
            for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
        ],
        skip_special_tokens=True,
    )
    for row, text in zip(batch["row_ids"], texts, strict=True):
        assert text in said[row]
    # and the pictures are those of the rows
    pictures = {row["id"]: row["images"] for row in digits.rows(8, seed=1)}
    expected = trainer.processing_class.image_processor(
        [pictures[row][0] for row in batch["row_ids"]], return_tensors="pt"
    )["pixel_values"]
    assert_close(batch["pixel_values"], expected)


def test_a_full_first_round_trains_as_without(make):  # noqa: F811
    plain = make(PGPO(), rows=digits.rows(8, seed=1))
    plain.reward_funcs = [Script([1])]
    with_sampling, _ = scripted(make, [1])
    torch.manual_seed(0)
    expected = trained(plain)
    torch.manual_seed(0)
    assert same(trained(with_sampling), expected)


@pytest.mark.parametrize("when_short", ["keep", "skip", "error"])
def test_when_rounds_run_out(make, when_short):  # noqa: F811
    sampling = {"max_rounds": 3, "when_short": when_short}
    trainer, script = scripted(make, [0, 0, 1, 0, 0, 0], sampling=sampling, max_steps=2)
    start = weights_of(trainer)
    if when_short == "error":
        with pytest.raises(ValueError, match=r"step 1: after 3 rounds 1 of 6 groups differ"):
            trainer.train()
        return
    end = trained(trainer)
    assert len(script.asked) == 12
    assert same(start, end) == (when_short == "skip")
    batch = trainer._buffered_inputs[0]
    assert len(batch["advantages"]) == 8  # shapes never change
    # the group that differs and the first that does not
    assert len(set(batch["row_ids"])) == 2
    assert (batch["advantages"] != 0).any(1).sum() == GROUP


def test_a_skipped_step_moves_nothing_not_even_by_momentum(make):  # noqa: F811
    sampling = {"max_rounds": 1, "when_short": "skip"}
    trainer, _ = scripted(make, [1, 1, 0, 0], sampling=sampling, max_steps=2)
    watch = Watch(trainer)
    trainer.add_callback(watch)
    end = trained(trainer)
    first, second = watch.seen
    assert not same(first, second) and same(second, end)


def test_a_step_is_skipped_only_if_all_its_batches_are(make):  # noqa: F811
    # two rollout batches a step: the first is full, the second is not, whatever it holds
    sampling = {"max_rounds": 1, "when_short": "skip"}
    settings = {"gradient_accumulation_steps": 2, "steps_per_generation": 1, "max_steps": 1}
    ends = []
    for differs in ([1, 1, 0, 0], [1, 1, 0, 1]):
        trainer, _ = scripted(make, differs, sampling=dict(sampling), **settings)
        start = weights_of(trainer)
        ends.append(trained(trainer))
    assert distance(start, ends[0]) > 0
    assert same(*ends)


def test_the_reward_to_look_at_can_be_named(make):  # noqa: F811
    # here the weighted sum differs everywhere and the script does not
    def shaped(completions, **columns):
        return [float(i) for i in range(len(completions))]

    for reward, rounds in ((None, 1), ("script", 2)):
        trainer, script = scripted(make, [0, 1, 1, 0])
        trainer.dynamic_sampling = DynamicSampling(reward=reward)
        trainer.reward_funcs, trainer.reward_func_names = [script, shaped], ["script", "shaped"]
        trainer.reward_processing_classes = [None, None]
        trainer.reward_weights = torch.ones(2)
        rollout(trainer)
        assert trainer._metrics["train"]["sampling/rounds"] == [rounds]


def test_prompts_beyond_the_batch_come_in_an_order_of_their_own(make):  # noqa: F811
    trainer, script = scripted(make, [0], rows=5, sampling={"max_rounds": 6})
    rollout(trainer)
    drawn = script.asked[2:]  # ten: twice all five, each time in another order
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == sorted(set(drawn))
    assert drawn[:5] != drawn[5:]
    again, other = scripted(make, [0], rows=5, sampling={"max_rounds": 6})
    rollout(again)
    assert other.asked == script.asked


def test_what_rewards_log_is_kept_for_what_is_kept(make):  # noqa: F811
    trainer, script = scripted(make, [0, 1, 1, 0])

    def logging(completions, log_extra, **columns):
        log_extra("question", list(columns["id"]))
        return script(completions, **columns)

    trainer.reward_funcs = [logging]
    batch = rollout(trainer)
    assert list(trainer._logs["extra"]["question"]) == batch["row_ids"]


def test_tokens_of_all_rounds_are_counted(make):  # noqa: F811
    trainer, _ = scripted(make, [0, 1, 1, 0])
    generate, spent = trainer._generate_single_turn, []

    def watch(prompts, *rest):
        responses, *others = generate(prompts, *rest)
        spent.append(sum(map(len, [*prompts, *responses])))
        return responses, *others

    trainer._generate_single_turn = watch
    rollout(trainer)
    assert len(spent) == 2
    assert trainer._metrics["train"]["num_tokens"] == [sum(spent)]


def test_rounds_run_no_pass_for_log_probs(make, monkeypatch):  # noqa: F811
    trainer, _ = scripted(make, [0, 1, 1, 0], Algorithm(), num_iterations=2)
    asked = passes_of_trl(monkeypatch)
    rollout(trainer)
    assert len(asked) == 1  # for the rows that were kept


def test_old_log_probs_and_plain_grpo_work_with_it(make):  # noqa: F811
    for algorithm in (PGPO(), Algorithm()):
        trainer, _ = scripted(
            make, [0, 1, 1, 0], algorithm, num_iterations=2, max_steps=4, learning_rate=1e-4
        )
        trainer.train()
        norms = [line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line]
        assert len(norms) == 4 and np.all(np.isfinite(norms)) and min(norms) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_rounds": 0}, "max_rounds must be at least 1, got 0"),
        ({"when_short": "shrink"}, r"when_short must be one of \('keep', .*, got 'shrink'"),
    ],
)
def test_wrong_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        DynamicSampling(**settings)


def test_an_unknown_reward_is_named(make):  # noqa: F811
    with pytest.raises(ValueError, match=r"the reward 'acc'; there are \['even_length'\]"):
        make(PGPO(), dynamic_sampling=DynamicSampling(reward="acc"))


def test_a_resumed_run_goes_on_where_it_was_with_its_prompts(make, tmp_path):  # noqa: F811
    # responses of random length: some groups differ and some do not
    settings = {
        "rows": digits.rows(6, seed=1),
        "dynamic_sampling": DynamicSampling(max_rounds=3),
        "per_device_train_batch_size": 4,
        "max_completion_length": 1,
        "max_steps": 3,
        "save_strategy": "steps",
        "save_steps": 1,
    }

    def rare(completions, **columns):
        return [float(len(c[0]["content"]) % 8 == 0) for c in completions]

    whole = make(PGPO(), **settings, output_dir=str(tmp_path / "run"))
    whole.reward_funcs = [rare]
    end = trained(whole)
    assert whole._refills > 2
    again = make(PGPO(), **settings, output_dir=str(tmp_path / "run"))
    again.reward_funcs = [rare]
    again.train(str(tmp_path / "run" / "checkpoint-2"))
    assert same(end, weights_of(again))
    assert again._refills == whole._refills


def test_two_processes_fill_their_batches_together(tiny, tmp_path):
    run(fill, copy.deepcopy(tiny), tmp_path)
    found = [torch.load(tmp_path / f"filled-{rank}.pt") for rank in range(2)]
    ids = [name for batch in found for name in batch["row_ids"]]
    # groups of the last three questions alone differ; each process has two of 4 responses
    assert {name[-1] for name in ids} <= {"3", "4", "5"}
    assert all(len(batch["row_ids"]) == 8 for batch in found)
    assert found[0]["rounds"] == found[1]["rounds"] and found[0]["rounds"][0] > 1
    for batch in found:
        advantages = batch["advantages"].sum(1) / batch["completion_mask"].sum(1)
        assert_close(advantages.sign(), torch.tensor([1.0, -1.0, -1.0, 1.0] * 2))
