"""The contract of the TRL engine: what it must keep of TRL, and what it must change."""

import copy
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import trl
from peft import LoraConfig
from reference_loop import reference_loss
from tiny_families import BUILDERS, build
from torch.testing import assert_close
from trl import GRPOConfig, GRPOTrainer
from two_processes import NAMES, curve_of, run, train_all, train_sharded, weigh

from sightline import ALGORITHMS, PGPO, PRPO, VPPO, Algorithm, Blind, ViewScores
from sightline.draws import Draws
from sightline.encoding import encode
from sightline.engines.trl import PerceptionGRPOTrainer, seam, support
from sightline.scoring import score_views
from sightline.tasks import digits

PICTURE_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")


def even_length(completions, **columns):
    """A reward that varies within a group of random responses."""
    return [float(len(c[0]["content"]) % 2) for c in completions]


@dataclass(frozen=True)
class Ones(Algorithm):
    """Weights of 1 that nevertheless come as (B, T)."""

    def views(self):
        return {"blind": Blind()}


@dataclass(frozen=True)
class FirstTokenOff(Ones):
    """The first token of every response weighs 0."""

    def token_weights(self, scores, mask):
        weights = mask.float()
        weights[:, 0] = 0
        return weights


@pytest.fixture
def make(tiny, tmp_path):
    """A trainer on a fresh copy of the tiny model, on 2 prompts x 4 responses a step."""
    count = iter(range(100))

    def build(
        algorithm=None,
        rows=None,
        entropy_penalty=0.0,
        dynamic_sampling=None,
        peft_config=None,
        **settings,
    ):
        model = copy.deepcopy(tiny.model)
        folder = tmp_path / str(next(count))
        args = GRPOConfig(
            **{
                "output_dir": str(folder),
                "per_device_train_batch_size": 8,
                "num_generations": 4,
                "max_completion_length": 6,
                "max_steps": 2,
                "learning_rate": 1e-3,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "use_cpu": True,
                "bf16": False,
                "gradient_checkpointing": False,
                "disable_tqdm": True,
                "epsilon_high": 0.28,
                **settings,
            }
        )
        common = {
            "model": model,
            "reward_funcs": even_length,
            "args": args,
            "processing_class": tiny.processor,
            "peft_config": peft_config,
        }
        rows = rows or digits.rows(4, seed=1)
        if algorithm is None:
            from datasets import Dataset

            return GRPOTrainer(train_dataset=Dataset.from_list(rows), **common)
        return PerceptionGRPOTrainer(
            algorithm=algorithm,
            entropy_penalty=entropy_penalty,
            dynamic_sampling=dynamic_sampling,
            train_dataset=rows,
            **common,
        )

    return build


def weights_of(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def trained(trainer):
    """Its parameters after training, started at once: construction seeds the generators."""
    trainer.train()
    return weights_of(trainer)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def distance(first, second):
    """Of all parameters together."""
    return sum((first[n] - second[n]).double().square().sum() for n in first).sqrt()


def test_uniform_credit_trains_bit_for_bit_like_trl(make, tiny):
    # P7; TRL is told not to sample the tokens that we never sample
    banned = [tiny.processor.tokenizer.convert_tokens_to_ids(t) for t in PICTURE_TOKENS]
    plain = trained(make(generation_kwargs={"suppress_tokens": sorted(banned)}))
    ours = trained(make(Algorithm()))
    assert not same(dict(tiny.model.named_parameters()), plain)
    assert same(plain, ours)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "bnpo", "dr_grpo"])
def test_weights_of_one_per_token_train_like_one_advantage_per_response(make, loss_type):
    per_response = trained(make(Algorithm(), loss_type=loss_type))
    per_token = trained(make(Ones(), loss_type=loss_type))
    assert same(per_response, per_token)


@pytest.mark.parametrize(
    ("algorithm", "loss_type", "temperature"),
    [
        (PGPO(), "dapo", 1.0),
        (PGPO(), "dapo", 0.7),
        (PGPO(), "grpo", 1.0),
        (PGPO(), "grpo", 0.7),
        (VPPO(), "dapo", 1.0),
        (PRPO(threshold=0.05), "dapo", 1.0),
    ],
)
def test_loss_and_gradient_equal_the_reference_loop(make, algorithm, loss_type, temperature):
    trainer = make(algorithm, loss_type=loss_type, temperature=temperature)
    batch = rollout(trainer)
    advantages, weights = unmixed(trainer, batch)
    real = batch["completion_mask"].bool()
    assert weights[real].max() > 1.02  # the method has something to say here
    assert weights[real].min() == (1 if isinstance(algorithm, PRPO) else 0)

    trainer.model.train()
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    expected = reference_loss(
        trainer.model, batch, weights, advantages, loss_type, temperature=temperature
    )
    expected.backward()

    assert_close(loss, expected, atol=1e-6, rtol=1e-5)
    for name, parameter in trainer.model.named_parameters():
        assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)
    assert max(g.abs().max() for g in found.values()) > 1e-3


def test_a_token_of_weight_zero_has_no_gradient_and_its_neighbours_do(make, monkeypatch):
    trainer = make(FirstTokenOff())
    batch = rollout(trainer)
    caught = {}
    method = GRPOTrainer._get_per_token_logps_and_entropies

    def keep(self, *args, **kwargs):
        result = method(self, *args, **kwargs)
        result[0].retain_grad()
        caught["log_probs"] = result[0]
        return result

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", keep)
    trainer._compute_loss(trainer.model, batch).backward()

    gradient = caught["log_probs"].grad
    trained = batch["advantages"][:, 1:] != 0
    assert not gradient[:, 0].any()
    assert gradient[:, 1:][trained].all() and trained.any()


def test_weights_stay_with_their_rows_through_shuffle_and_split(make):
    # 4 slices of 2 rows: TRL permutes the rows, and images of two sizes with them
    rows = digits.rows(4, seed=1)
    for index, row in enumerate(rows):
        row["images"] = [row["images"][0].resize((48 + 16 * index, 32))] * (1 + index % 2)
    trainer = make(
        PGPO(),
        rows=rows,
        per_device_train_batch_size=2,
        steps_per_generation=4,
        gradient_accumulation_steps=4,
    )
    slices, unsplit = [], {}
    compute, generate = trainer._compute_loss, trainer._generate_and_score_completions

    def watch_generation(inputs):
        output = generate(inputs)
        for ids, credit in zip(output["completion_ids"], output["advantages"], strict=True):
            unsplit[tuple(ids.tolist())] = credit.clone()
        return output

    def watch_loss(model, inputs):
        slices.append(inputs)
        return compute(model, inputs)

    trainer._generate_and_score_completions = watch_generation
    trainer._compute_loss = watch_loss
    trainer.train()

    assert len(slices) == 8
    seen = 0
    for part in slices:
        assert part["advantages"].shape == part["completion_mask"].shape
        for ids, credit in zip(part["completion_ids"], part["advantages"], strict=True):
            assert_close(credit, unsplit[tuple(ids.tolist())][: len(credit)])
            seen += 1
    assert seen == 16


def test_our_clean_log_probs_equal_trls(make):
    trainer = make(PGPO(), temperature=0.8)
    batch = rollout(trainer)
    ours = score_views(trainer.model, seam.read(batch), {}, temperature=0.8).log_probs
    assert_close(ours, log_probs_of_trl(trainer, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_family_trains_and_scores_as_trl_does(name, make, tiny, monkeypatch):  # T22, T40
    other = build(name)
    monkeypatch.setattr(tiny, "model", other.model)
    monkeypatch.setattr(tiny, "processor", other.processor)
    trainer = make(PGPO())
    start = weights_of(trainer)
    assert not same(trained(trainer), start)
    batch = rollout(trainer)
    ours = score_views(trainer.model, seam.read(batch), {}).log_probs
    assert_close(ours, log_probs_of_trl(trainer, batch), atol=1e-5, rtol=0)


def test_inputs_that_scoring_would_leave_out_are_refused(make):
    batch = rollout(make(PGPO()))
    with pytest.raises(ValueError, match=r"does not know .* \['spatial_shapes'\]"):
        seam.read({**batch, "spatial_shapes": torch.ones(8, 2)})


@pytest.mark.parametrize("name", ALGORITHMS)
def test_micro_batches_of_any_size_train_alike(make, name):  # T30
    ends, curves = [], []
    for size in (8, 2):
        trainer = make(
            ALGORITHMS[name](),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            steps_per_generation=8 // size,
            optim="sgd",
            learning_rate=0.02,
            max_grad_norm=1e9,  # so that a step is the gradient
            max_steps=3,
        )
        start = weights_of(trainer)
        ends.append(trained(trainer))
        curves.append(curve_of(trainer))
    # a step in which no group differs in reward has none
    assert len(curves[0]) == 3 and sum(norm > 1 for _, norm in curves[0]) >= 2
    for end, curve in zip(ends[1:], curves[1:], strict=True):
        assert_close(curve, curves[0], atol=1e-5, rtol=1e-5)
        assert distance(end, ends[0]) < 1e-5 * distance(start, ends[0])


def test_runs_of_all_methods_are_paired(make, monkeypatch):
    # without learning, every method asks the same questions and samples the same responses
    seen = {}
    for name, algorithm in ALGORITHMS.items():
        trainer = make(algorithm(), learning_rate=0.0, max_steps=3, lr_scheduler_type="cosine")
        compute = trainer._compute_loss

        def watch(model, inputs, name=name, compute=compute):
            batch = zip(inputs["row_ids"], inputs["completion_ids"].tolist(), strict=True)
            seen.setdefault(name, []).append(sorted(batch))
            return compute(model, inputs)

        trainer._compute_loss = watch
        trainer.train()
    assert len(seen["grpo"]) == 3 and seen["grpo"][0] != seen["grpo"][1]
    assert all(batches == seen["grpo"] for batches in seen.values())


def test_the_buffered_batch_is_left_alone_by_the_loss(make):
    # T17
    trainer = make(PGPO())
    batch = rollout(trainer)
    before = {k: v.clone() for k, v in batch.items() if torch.is_tensor(v)}
    trainer._compute_loss(trainer.model, batch)
    assert all(torch.equal(batch[name], value) for name, value in before.items())


@pytest.mark.timeout(300)  # eight runs of four steps, some on two processes
def test_two_processes_train_like_one_whole_and_sharded(tiny, tmp_path):  # T30, T45
    start = {name: p.detach() for name, p in tiny.model.named_parameters()}
    one, two = (train_all(tiny, tmp_path, processes) for processes in (1, 2))
    run(train_sharded, tiny, tmp_path)
    two["sharded"], resumed = torch.load(tmp_path / "whole.pt"), torch.load(tmp_path / "resumed.pt")
    for name in (*NAMES, "sharded"):
        end, curve, metrics = one[name.replace("sharded", "pgpo")]
        other_end, other_curve, other_metrics = two[name]
        assert len(curve) == 4 and min(norm for _, norm in curve) > 0.1
        assert_close(other_curve, curve, atol=1e-5, rtol=1e-5)
        assert distance(end, other_end) < 1e-5 * distance(start, end)
        assert ("dependency/p99" in metrics[0]) == (name != "grpo")
        for line, other in zip(metrics, other_metrics, strict=True):  # of all rows, wherever
            # each process scores other rows again
            assert (name == "grpo") or other.pop("dependency/noise_floor") < 1e-3
            line.pop("dependency/noise_floor", None)
            assert other == pytest.approx(line, rel=1e-3, abs=1e-5)
    assert same(two["sharded"][0], resumed[0])
    saved = type(tiny.model).from_pretrained(tmp_path / "saved")
    assert same(dict(saved.named_parameters()), resumed[0])
    for rank in (0, 1):  # P6
        assert "is not the data it should be" in (tmp_path / f"refused-{rank}").read_text()
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    "algorithm", [VPPO(), PRPO(mass="batch"), PGPO(estimator="kl")], ids=lambda a: type(a).__name__
)
def test_weights_of_two_processes_are_those_of_one(algorithm, tmp_path):  # T30, T45
    # 3 rows of up to 7 tokens on one process, 3 of up to 4 on the other
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(7) < torch.tensor([7, 2, 5, 4, 1, 3])[:, None]
    scores = {}
    for name in algorithm.views():
        ratio, kl = (torch.randn(6, 7, generator=generator) * mask for _ in range(2))
        scores[name] = ViewScores(ratio, kl.abs())
    cuts = [(slice(0, 3), slice(0, 7)), (slice(3, 6), slice(0, 4))]
    parts = [
        {name: ViewScores(s.log_ratio[cut], s.kl[cut]) for name, s in scores.items()}
        for cut in cuts
    ]
    run(weigh, algorithm, parts, [mask[cut] for cut in cuts], tmp_path)

    weights = algorithm.token_weights(scores, mask)

    assert len(weights.unique()) > 2
    for rank, cut in enumerate(cuts):
        assert_close(torch.load(tmp_path / f"weights-{rank}.pt"), weights[cut])


def test_old_log_probs_come_from_the_sweep_that_scores_views(make, monkeypatch):  # T22, T49
    from sightline.engines.trl import trainer as module

    calls = []
    score = module.score_views
    monkeypatch.setattr(
        module, "score_views", lambda *a, **k: calls.append(score(*a, **k)) or calls[-1]
    )
    once, twice = make(PGPO()), make(PGPO(), num_iterations=2)
    asked = passes_of_trl(monkeypatch)

    torch.manual_seed(0)
    plain = rollout(once)
    torch.manual_seed(0)
    batch = rollout(twice)

    assert "old_per_token_logps" not in plain
    assert len(calls) == 2 and not asked  # one sweep each, and TRL's own pass never ran
    assert_close(batch["completion_ids"], plain["completion_ids"])
    assert_close(batch["advantages"], plain["advantages"], atol=1e-6, rtol=1e-5)
    old = batch["old_per_token_logps"]
    assert_close(old, log_probs_of_trl(twice, batch), atol=1e-5, rtol=0)
    asked.clear()
    # later questions of the same generation are TRL's own again
    twice._compute_loss(twice.model, batch)
    assert asked


def test_old_log_probs_are_trls_own_where_its_head_is_not_float32(make, monkeypatch):  # T22
    # in bf16 the loss's head rounds: a ratio against log-probs from a float32 head is not 1
    rounded = make(PGPO(), num_iterations=2, bf16=True)
    asked = passes_of_trl(monkeypatch)
    batch = rollout(rounded)
    assert asked
    assert batch["old_per_token_logps"].shape == batch["completion_mask"].shape


def test_rows_without_advantage_are_skipped_where_that_is_exact(make, monkeypatch):  # T31
    from sightline.engines.trl import trainer as module

    wanted = {}
    score = module.score_views

    def watch(*args, **kwargs):
        wanted[type(trainer.algorithm).__name__] = kwargs["wanted"]
        return score(*args, **kwargs)

    monkeypatch.setattr(module, "score_views", watch)
    for algorithm in (PGPO(), VPPO()):
        trainer = make(algorithm)
        trainer.reward_funcs = [lambda completions, **columns: [1.0] * 4 + [0.0, 1.0, 0.0, 1.0]]
        trainer.train()
        lines = (trainer.run_folder / "metrics.jsonl").read_text().splitlines()
        scored = [json.loads(line)["scoring/rows"] for line in lines if "reward" in line]
        assert scored == ([4.0, 4.0] if isinstance(algorithm, PGPO) else [8.0, 8.0])
        extra = [json.loads(line).get("scoring/extra_forward_share") for line in lines]
        assert extra[:2] == ([1.0, 1.0] if isinstance(algorithm, PGPO) else [2.0, 2.0])
        records = (trainer.run_folder / "tokens.jsonl").read_text().splitlines()
        assert all(any(json.loads(record)["dependency"]) for record in records)
    assert wanted["PGPO"].tolist() == [False] * 4 + [True] * 4  # the first group is all alike
    assert wanted["VPPO"] is None


@pytest.mark.parametrize("grid", ["encoder", "source"])
def test_views_of_pixels_are_drawn_by_step_prompt_and_response(make, monkeypatch, grid):  # T14
    from sightline import view_inputs

    rows = digits.rows(4, seed=1)
    if grid == "source":  # of a size that no step resizes
        monkeypatch.setattr(view_inputs, "SOURCE_PIXELS", (1, 10**9))
    keys = []
    draw = view_inputs.draw_seed
    monkeypatch.setattr(view_inputs, "draw_seed", lambda *key: keys.append(key) or draw(*key))
    # no log line, whose noise floor would draw two rows again
    trainer = make(VPPO(mask_grid=grid), rows=rows, seed=3, logging_steps=9)
    monkeypatch.setattr(trainer, "_logs_now", lambda: False)
    trainer.train()
    assert len(keys) == 2 * 8 == len(set(keys))
    assert {key[0] for key in keys} == {3}
    assert [key[1] for key in keys] == [0] * 8 + [1] * 8
    assert {key[2] for key in keys} == {row["id"] for row in rows}
    assert [key[3] for key in keys] == [0, 1, 2, 3] * 4
    assert {key[4:] for key in keys} == {(0, "patches")}


def test_the_entropy_penalty_is_a_mean_of_minus_log_p_over_all_tokens(make):  # T36, T39, V10
    # 0.06 * sum(-log p) / tokens beside the loss without it, and the same gradient in micro-batches
    plain, penalised = make(VPPO()), make(VPPO(), entropy_penalty=0.06)
    for trainer in (plain, penalised):
        torch.manual_seed(0)
        batch = rollout(trainer)
        mask = batch["completion_mask"].bool()
        loss = trainer._compute_loss(trainer.model, batch)
        if trainer is plain:
            base = loss
    with torch.no_grad():
        from sightline.scoring import score_views

        log_probs = score_views(penalised.model, seam.read(batch), {}).log_probs
    assert_close(loss - base, -0.06 * log_probs.sum() / mask.sum(), atol=1e-6, rtol=1e-4)

    results = []
    for size in (8, 2):
        trainer = make(
            VPPO(),
            entropy_penalty=0.5,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            steps_per_generation=8 // size,
            optim="sgd",
            max_steps=1,
        )
        results.append(trained(trainer))
    for name, value in results[0].items():
        assert_close(results[1][name], value, atol=2e-6, rtol=1e-4)
    with pytest.raises(ValueError, match=r"entropy_penalty=0.1 with loss_type='grpo'.*'dapo'"):
        make(VPPO(), entropy_penalty=0.1, loss_type="grpo")


def test_clipping_is_counted_among_tokens_with_credit(make):  # T52
    # ratio      1.3  1.2 | 0.7  0.9 | 1.3  0.7        clipped above 1.28, below 0.8
    # credit      +1   +1 |  -2   -2 |  -1    0
    # clipped    yes   no | yes   no |  no   no         2 of 5 with credit, padding aside
    ratio = torch.tensor([[1.3, 1.2, 1.3], [0.7, 0.9, 1.3], [1.3, 0.7, 1.0]])
    inputs = {
        "advantages": torch.tensor([[1.0, 1.0, 1.0], [-2.0, -2.0, 1.0], [-1.0, 0.0, 0.0]]),
        "completion_mask": torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1]]),
        "old_per_token_logps": torch.full((3, 3), -1.0),
    }
    trainer = make(PGPO())
    assert seam.clipped_share(trainer, inputs, ratio.log() - 1) == pytest.approx(2 / 5)
    plain = {**inputs, "advantages": torch.tensor([1.0, -2.0, 0.0])}  # one for each response
    assert seam.clipped_share(trainer, plain, ratio.log() - 1) == pytest.approx(2 / 4)
    del inputs["old_per_token_logps"]  # a first use, where all ratios are 1
    assert seam.clipped_share(trainer, inputs, ratio.log() - 1) == 0


@pytest.mark.parametrize(
    ("algorithm", "iterations", "share"),
    [
        (PGPO(), 1, 2.0),  # a clean pass and a blind one, beside one of the loss
        (PGPO(), 2, 0.5),  # the clean one would have been TRL's: 1 beside 2
        (VPPO(), 1, 2.0),
        (PRPO(), 1, 3.0),
    ],
)
def test_extra_passes_are_counted(make, algorithm, iterations, share):
    trainer = make(algorithm, num_iterations=iterations, rows=rows_of_two_one_and_no_images())
    rewards = iter([0.0, 1.0] * 4)
    trainer.reward_funcs = [lambda completions, **columns: [next(rewards) for _ in completions]]
    rollout(trainer)
    assert trainer._metrics["train"]["scoring/extra_forward_share"] == [share]


def test_evaluation_scores_no_view(make, monkeypatch):
    # T62
    trainer = make(PGPO())
    monkeypatch.setattr(
        "sightline.engines.trl.trainer.score_views", lambda *a, **k: pytest.fail("scored")
    )
    trainer.model.eval()
    output = trainer._generate_and_score_completions(list(trainer.train_dataset)[:4])
    assert output["advantages"].ndim == 1


def test_no_image_token_is_ever_sampled(make, tiny):
    # T55: a model that wants nothing else
    trainer = make(PGPO())
    banned = [tiny.processor.tokenizer.convert_tokens_to_ids(t) for t in PICTURE_TOKENS]
    with torch.no_grad():
        embeddings = trainer.model.get_output_embeddings().weight
        embeddings[banned] *= 100
    batch = rollout(trainer)
    assert not torch.isin(batch["completion_ids"], torch.tensor(banned)).any()


def test_an_image_that_does_not_reach_the_model_stops_the_run(make, monkeypatch):
    trainer = make(PGPO())
    visual = trainer.model.model.visual
    forward = visual.forward

    def blind_tower(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.pooler_output = output.pooler_output * 0
        return output

    # the tower gives zeros, and the language model ignores image tokens altogether
    monkeypatch.setattr(visual, "forward", blind_tower)
    hidden = {}
    from sightline import scoring

    original = scoring._response_states

    def same_for_every_view(model, inner, inputs, *rest):
        if "pixel_values" in inputs:
            hidden["clean"] = original(model, inner, inputs, *rest)
        return hidden["clean"]

    monkeypatch.setattr(scoring, "_response_states", same_for_every_view)
    with pytest.raises(ValueError, match="dependency is 0 on every token at step 0"):
        trainer.train()


def test_data_without_any_image_is_refused(make):
    rows = [{**row, "images": []} for row in digits.rows(4, seed=1)]
    with pytest.raises(ValueError, match="no row of the training data has an image"):
        make(PGPO(), rows=rows)


def test_plain_grpo_trains_on_text_alone(make):
    rows = [{**row, "images": []} for row in digits.rows(4, seed=1)]
    trainer = make(Algorithm(), rows=rows, max_steps=1)
    start = weights_of(trainer)
    assert not same(trained(trainer), start)


def rows_of_two_one_and_no_images():
    made = digits.rows(6, seed=1)
    made[1]["images"] = [made[1]["images"][0], made[0]["images"][0].resize((32, 32))]
    for row in (made[2], made[3]):
        row["images"] = []
    return made


@pytest.mark.filterwarnings("ignore:.*no row of the batch")
@pytest.mark.parametrize(("size", "iterations"), [(8, 1), (4, 2), (1, 1), (1, 2)])
def test_rows_with_and_without_images_train_together(make, monkeypatch, size, iterations):
    # T6, T48; with two iterations TRL asks for old log-probs
    weighed = []
    original = seam.whole_batch_weights

    def watched(trainer, algorithm, scores, mask):
        weighed.append((original(trainer, algorithm, scores, mask), mask))
        return weighed[-1][0]

    monkeypatch.setattr(seam, "whole_batch_weights", watched)
    trainer = make(
        PGPO(),
        rows=rows_of_two_one_and_no_images(),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=8 // size,
        num_iterations=iterations,
        max_steps=3 * iterations,
    )
    images = []
    score = trainer._score

    def scored(rows, responses, wanted):
        images.append([len(row["images"]) for row in rows])
        assert images[-1] == responses.num_images
        return score(rows, responses, wanted)

    monkeypatch.setattr(trainer, "_score", scored)
    trainer.train()

    assert any(0 in batch and max(batch) > 0 for batch in images)  # mixed
    for (weights, mask), batch in zip(weighed, images, strict=True):
        for row, count in enumerate(batch):
            ones = weights[row].equal(mask[row].float())
            assert ones if count == 0 else weights[row].sum() > 0
    assert all(np.isfinite(line["grad_norm"]) for line in trainer.state.log_history[:-1])


def test_rows_with_and_without_images_train_as_in_micro_batches_of_any_size(make):
    results = []
    for size in (8, 1):
        trainer = make(
            PGPO(),
            rows=rows_of_two_one_and_no_images()[1:3],
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
            max_steps=1,
        )
        start = weights_of(trainer)
        results.append(trained(trainer))
    assert distance(*results) < 1e-6 * distance(start, results[0])


def test_truncated_responses_that_are_masked_are_nobody_s_fault(make):  # T56
    # all of them are: nothing is scored, nothing learned, and the image is not blamed
    for algorithm in (PGPO(), VPPO()):
        trainer = make(algorithm, mask_truncated_completions=True, max_completion_length=2)
        batch = rollout(trainer)
        assert not batch["completion_mask"].any() and not batch["advantages"].any()


def test_a_picture_without_a_place_in_the_prompt_is_named_at_once(make, tiny, monkeypatch):  # T4
    monkeypatch.setattr(tiny.model.config, "image_token_id", 7)
    with pytest.raises(ValueError, match=r"row 0 has 1 image.* holds 0 tokens with id 7"):
        make(PGPO())


def test_a_batch_of_text_alone_says_so(make):
    trainer = make(PGPO(), rows=digits.rows(4, seed=1))
    texts = [{**row, "images": []} for row in digits.rows(2, seed=1) for _ in range(4)]
    trainer.model.train()
    with pytest.warns(UserWarning, match="step 1: no row of the batch has an image"):
        output = trainer._generate_and_score_completions(texts)
    assert output["advantages"].shape == output["completion_mask"].shape


def test_metrics_and_tokens_are_written(make, tiny):
    trainer = make(PGPO())
    trainer.train()
    folder = trainer.run_folder
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    records = [json.loads(line) for line in (folder / "tokens.jsonl").read_text().splitlines()]

    steps = [line for line in lines if "reward" in line]
    assert [line["step"] for line in steps] == [1, 2]
    for name in ("dependency/mean", "weights/largest", "weights/effective_tokens"):
        assert all(line[name] > 0 for line in steps)
    for part in ("generation", "rewards", "scoring", "update"):
        assert sum(line[f"seconds/{part}"] for line in steps) == trainer.clock.totals[part] > 0
    assert len(records) == 2 * 4  # one group of four per log step
    for record in records:
        width = len(record["tokens"])
        assert len(record["weights"]) == len(record["dependency"]) == width
        assert len(record["views"]["blind"]["log_ratio"]) == width
        assert (folder / record["images"][0]).is_file()
        assert record["reward"] in (0.0, 1.0)
        assert sum(record["weights"]) == pytest.approx(width, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"importance_sampling_level": "sequence"}, "one ratio per response"),
        ({"torch_compile": True}, "scoring hooks into the model's forward"),
    ],
)
def test_settings_that_undo_token_credit_are_refused(make, settings, sentence):
    # T50
    with pytest.raises(ValueError, match=sentence):
        make(PGPO(), **settings)


def test_a_reward_of_none_adds_nothing_and_names_must_differ(make):
    trainer = make(PGPO())
    trainer._logs["rewards"] = {"a": [9.0, 1.0, float("nan")], "b": [9.0, 0.5, 0.25]}
    trainer.reward_weights = torch.tensor([0.9, 0.1])
    assert seam.rewards(trainer, 2) == pytest.approx([0.95, 0.025])
    trainer.reward_func_names = ["a", "a"]
    with pytest.raises(ValueError, match="reward functions of one name"):
        support.check_settings(trainer)


def test_a_right_padding_processor_is_refused(make, tiny, monkeypatch):
    # T53
    monkeypatch.setattr(tiny.processor.tokenizer, "padding_side", "right")
    with pytest.raises(ValueError, match="padding_side='left'"):
        make(PGPO())


def test_a_trl_whose_methods_changed_is_refused(monkeypatch):
    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", lambda self, a, b: None)
    with pytest.raises(
        ImportError, match=rf"trl {trl.__version__} with .* is not supported.*1\.16\.0"
    ):
        support.check_methods()


def test_prompts_are_encoded_as_trl_encodes_them(make, tiny):
    rows = digits.rows(2, seed=4)
    trainer = make(PGPO(), rows=rows)
    from trl.data_utils import prepare_multimodal_messages

    theirs, _, _ = trainer._tokenize_prompts(
        [prepare_multimodal_messages(row["prompt"], images=row["images"]) for row in rows]
    )
    ours = encode(tiny.processor, rows).inputs
    for row in range(2):
        real = ours["attention_mask"][row].bool()
        assert ours["input_ids"][row][real].tolist() == list(theirs[row])


def rollout(trainer):
    """One generation batch, scored, as TRL hands it to its loss."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [trainer.train_dataset[i] for i in (0, 0, 0, 0, 1, 1, 1, 1)]
    return trainer._generate_and_score_completions(rows)


def passes_of_trl(monkeypatch):
    """A list that grows with each pass of TRL's own for log-probs."""
    asked = []
    theirs = GRPOTrainer._get_per_token_logps_and_entropies
    monkeypatch.setattr(
        GRPOTrainer,
        "_get_per_token_logps_and_entropies",
        lambda *a, **k: asked.append(1) or theirs(*a, **k),
    )
    return asked


@torch.no_grad()
def log_probs_of_trl(trainer, batch):
    """What TRL's own forward pass gives the sampled tokens, 0 on padding."""
    log_probs, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer,
        trainer.model,
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
        batch["completion_ids"].shape[1],
        **{name: batch.get(name) for name in (*seam.PICTURES, "num_images")},
    )
    return log_probs * batch["completion_mask"]


def unmixed(trainer, batch):
    """The group advantages and the weights that the batch's token advantages were made of."""
    rewards = torch.tensor(seam.rewards(trainer, 8)).view(2, 4)
    advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    rows = [trainer.train_dataset[i] for i in (0, 0, 0, 0, 1, 1, 1, 1)]
    scores = score_views(
        trainer.model,
        seam.read(batch),
        trainer.algorithm.views(),
        temperature=trainer.args.temperature,
        processor=trainer.processing_class,
        draws=Draws.of(rows, trainer.args.seed),
    ).views
    mask = batch["completion_mask"].bool()
    return advantages.flatten(), trainer.algorithm.token_weights(scores, mask)


@pytest.fixture
def lora():
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights="gaussian")


def test_lora_trains_its_adapters_and_nothing_else(make, lora):
    trainer = make(PGPO(), peft_config=lora)
    start = weights_of(trainer)
    batch = rollout(trainer)
    ours = score_views(trainer.model, seam.read(batch), {}).log_probs
    assert_close(ours, log_probs_of_trl(trainer, batch), atol=1e-5, rtol=0)
    end = trained(trainer)
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved and all("lora_" in name for name in moved)


def test_gradient_checkpointing_changes_nothing(make):
    ends, settings = [], {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0}
    for on in (False, True):
        trainer = make(PGPO(), gradient_checkpointing=on, max_steps=1, **settings)
        start = weights_of(trainer)
        ends.append(trained(trainer))
    assert distance(*ends) < 1e-6 * distance(start, ends[0])


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_bf16_trains_under_every_loss(make, loss_type):
    trainer = make(PGPO(), bf16=True, loss_type=loss_type, max_steps=1)
    start = weights_of(trainer)
    end = trained(trainer)
    assert not same(start, end) and all(p.isfinite().all() for p in end.values())
    assert all(p.dtype == torch.float32 for p in end.values())
