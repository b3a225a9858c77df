"""Steps that must not be taken, and runs that are asked to stop."""

import asyncio
import os
import signal
import warnings
from types import SimpleNamespace

import pytest
import torch
from test_trl import make, same, weights_of  # noqa: F401
from transformers import TrainerCallback

from sightline import ALGORITHMS, PGPO, VPPO, Algorithm, checkpoints
from sightline.engines.trl import DynamicSampling, seam
from sightline.engines.trl.guards import StopOnSignal
from sightline.tasks import digits


class Watch(TrainerCallback):
    """Remembers the weights before and after each step, and acts before one of them."""

    def __init__(self, trainer, at=None, act=None):
        self.trainer, self.at, self.act, self.seen = trainer, at, act, []

    def on_step_begin(self, args, state, control, **kwargs):
        self.seen.append(weights_of(self.trainer))
        if state.global_step == self.at:
            self.act()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("site", ["score", "kl", "log-prob"])
def test_a_step_that_is_not_finite_is_skipped_and_its_row_named(make, monkeypatch, site, value):  # noqa: F811
    rows = [{**row, "id": f"row-{i}"} for i, row in enumerate(digits.rows(4, seed=1))]
    estimator = "kl" if site == "kl" else "k3"
    trainer = make(PGPO(estimator=estimator), rows=rows, max_steps=3)
    sampled = []
    if site == "log-prob":
        original = type(trainer)._get_per_token_logps_and_entropies

        def log_probs(self, model, *args, **kwargs):
            found = original(self, model, *args, **kwargs)
            if self.state.global_step == 1 and found[0].requires_grad:
                spoiled = found[0] + 0 * found[0]
                spoiled[5, 0] = spoiled[5, 0] * value
                self._log_probs = spoiled
                return spoiled, *found[1:]
            return found

        monkeypatch.setattr(type(trainer), "_get_per_token_logps_and_entropies", log_probs)
    else:
        score = trainer._score

        def spoiled_scores(*args):
            scored = score(*args)
            if trainer.state.global_step == 1:
                blind = scored.views["blind"]
                (blind.log_ratio if site == "score" else blind.kl)[5, 0] = value
            return scored

        monkeypatch.setattr(trainer, "_score", spoiled_scores)
    original_rollout = trainer._score_rollout
    monkeypatch.setattr(
        trainer,
        "_score_rollout",
        lambda inputs: sampled.append([row["id"] for row in inputs]) or original_rollout(inputs),
    )
    watch = Watch(trainer)
    trainer.add_callback(watch)

    with pytest.warns(UserWarning, match=r"step 2: the gradient is not finite; .* skipped") as told:
        trainer.train()

    after = weights_of(trainer)
    first, second, third = watch.seen
    assert not same(first, second)
    assert same(second, third)  # bit for bit
    assert not same(third, after)
    assert all(p.isfinite().all() for p in after.values())
    sentence = next(str(w.message) for w in told if w.category is UserWarning)
    named = sentence.split("rows at fault: ")[1].split(". The")[0]
    # where log-probs are spoiled, the row is the sixth after TRL's shuffle
    assert named in (sampled[1] if site == "log-prob" else [sampled[1][5]])


def test_a_reward_of_nan_is_not_finite_and_none_is_no_reward(make):  # noqa: F811
    # TRL takes NaN for None, and both for a reward of 0
    rows = [{**row, "id": f"row-{i}"} for i, row in enumerate(digits.rows(4, seed=1))]
    trainer = make(Algorithm(), rows=rows, max_steps=2)
    asked = []

    def reward(completions, **columns):
        asked.append(columns["id"])
        broken = float("nan") if trainer.state.global_step == 0 else 0.0
        return [1.0, None, 0.0, 1.0, 1.0, broken, 0.0, 1.0]

    trainer.reward_funcs = [reward]
    watch = Watch(trainer)
    trainer.add_callback(watch)
    with pytest.warns(UserWarning, match=r"step 1: the gradient is not finite") as told:
        trainer.train()
    first, second = watch.seen
    assert same(first, second) and not same(second, weights_of(trainer))
    sentence = next(str(w.message) for w in told if "not finite" in str(w.message))
    assert f"rows at fault: {asked[0][5]}. The step" in sentence
    assert trainer.reward_funcs == [reward]


def test_nan_is_found_in_what_is_awaited_too():
    async def slow(**columns):
        return [1.0, None, torch.tensor(float("nan"))]

    trainer = SimpleNamespace(reward_funcs=[slow])
    with seam.nan_is_no_none(trainer):
        assert asyncio.run(trainer.reward_funcs[0](x=1)) == [1.0, None, float("inf")]
    assert trainer.reward_funcs == [slow]


def test_an_infinite_loss_with_a_finite_gradient_is_skipped_too(make, monkeypatch):  # noqa: F811
    # The second use of a rollout batch: of a token whose log-prob is now -inf the ratio is 0, and
    # the penalty on entropy infinite, with a gradient of -0.06 / tokens.
    trainer = make(VPPO(), entropy_penalty=0.06, num_iterations=2, loss_type="dapo")
    original = type(trainer)._get_per_token_logps_and_entropies

    def log_probs(self, model, *args, **kwargs):
        found = original(self, model, *args, **kwargs)
        if self.state.global_step == 1 and found[0].requires_grad:
            spoiled = found[0].clone()
            spoiled[5, 0] = spoiled[5, 0] - float("inf")
            self._log_probs = spoiled
            return spoiled, *found[1:]
        return found

    monkeypatch.setattr(type(trainer), "_get_per_token_logps_and_entropies", log_probs)
    watch = Watch(trainer)
    trainer.add_callback(watch)
    with pytest.warns(UserWarning, match=r"step 2: the gradient is not finite; rows at fault: \w"):
        trainer.train()
    assert same(watch.seen[1], weights_of(trainer))


def test_three_such_steps_in_a_row_end_the_run(make):  # noqa: F811
    trainer = make(Algorithm(), max_steps=9)
    trainer.reward_funcs = [lambda completions, **kw: [float("inf")] + [0.0] * 7]
    watch = Watch(trainer)
    trainer.add_callback(watch)
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(FloatingPointError, match=r"step 3: .* Stopped after 3 such steps in a row"),
    ):
        trainer.train()
    assert len(watch.seen) == 3
    assert same(watch.seen[0], weights_of(trainer))


def test_a_resumed_run_goes_on_counting_such_steps(make):  # noqa: F811
    settings = {"max_steps": 9, "save_strategy": "steps", "save_steps": 1}
    first = make(Algorithm(), **settings)
    second = make(Algorithm(), **{**settings, "output_dir": str(first.run_folder)})
    for trainer, resumed in ((first, None), (second, str(first.run_folder / "checkpoint-2"))):
        trainer.reward_funcs = [lambda completions, **kw: [float("inf")] + [0.0] * 7]
        with (
            warnings.catch_warnings(),
            pytest.raises(FloatingPointError, match=r"step 3: .* Stopped after 3 such steps"),
        ):
            warnings.filterwarnings("ignore", ".*not finite")
            trainer.train(resumed)


def test_a_sound_step_in_between_starts_the_count_anew(make):  # noqa: F811
    trainer = make(Algorithm(), max_steps=5)
    infinite = [True, True, False, True, True]

    def reward(completions, **columns):
        worst = float("inf") if infinite[trainer.state.global_step] else 1.0
        return [worst] + [0.0] * 7

    trainer.reward_funcs = [reward]
    with pytest.warns(UserWarning, match="not finite"):
        trainer.train()
    assert trainer.state.global_step == 5


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("length", [1, 4])
def test_groups_that_all_earn_the_same_teach_nothing(make, name, length):  # noqa: F811  # T31
    # of a single token too, where every response is cut off
    trainer = make(ALGORITHMS[name](), max_completion_length=length, max_steps=1, optim="sgd")
    trainer.reward_funcs = [lambda completions, **columns: [0.1] * len(completions)]
    start = weights_of(trainer)
    trainer.train()
    assert same(start, weights_of(trainer))
    line = next(line for line in trainer.state.log_history if "reward" in line)
    assert (line["frac_reward_zero_std"], line["grad_norm"]) == (1, 0)
    assert length > 1 or line["completions/clipped_ratio"] == 1
    assert all(value == value for value in line.values())  # no NaN


def test_sigterm_saves_after_the_step_at_hand_and_ends(make):  # noqa: F811
    trainer = make(PGPO(), max_steps=5)
    stop = StopOnSignal(trainer)
    trainer.add_callback(stop)
    trainer.add_callback(Watch(trainer, at=1, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    before = signal.getsignal(signal.SIGTERM)

    trainer.train()

    assert stop.stopped
    assert trainer.state.global_step == 2
    saved = trainer.run_folder / "checkpoint-2"
    assert checkpoints.damage(saved) is None
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_evaluation_makes_no_skipped_step_a_real_one(make):  # noqa: F811
    # no group differs, so that every step is skipped; evaluated in between, weights stay the same
    trainer = make(
        Algorithm(),
        dynamic_sampling=DynamicSampling(1, when_short="skip"),
        eval_steps=1,
        per_device_eval_batch_size=8,
        weight_decay=0.1,
        learning_rate=1e-2,
    )
    trainer.eval_dataset, trainer.args.eval_strategy = trainer.train_dataset, "steps"
    trainer.reward_funcs = [lambda completions, **columns: [1.0] * len(completions)]
    start = weights_of(trainer)
    trainer.train()
    assert sum("eval_loss" in line for line in trainer.state.log_history) == 2
    assert same(start, weights_of(trainer))
