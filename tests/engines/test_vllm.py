"""vLLM under the TRL engine, with TRL's own code up to vLLM and a stand-in for vLLM itself.

`FakeEngine` is the `LLM` of a trainer's process, `FakeServer` is TRL's client of a server. Both
take and return what trl 1.16 sends and reads; they lay out images as vLLM does, and sample with
`transformers`.
"""

import copy
import inspect
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_families import build
from torch.testing import assert_close
from transformers import LogitsProcessor, LogitsProcessorList
from trl import GRPOConfig, GRPOTrainer
from trl.generation import vllm_generation
from trl.generation.vllm_generation import VLLMGeneration

from sightline import PGPO, Algorithm
from sightline.engines.trl import DynamicSampling, PerceptionGRPOTrainer, seam, support, vllm
from sightline.engines.trl.sampling import BAN, with_ban
from sightline.scoring import score_views
from sightline.tasks import digits

IMAGE = 9  # the image token in prompts written by hand


def even_length(completions, **columns):
    """A reward that varies within a group of random responses."""
    return [float(len(c[0]["content"]) % 2) for c in completions]


class Bias(LogitsProcessor):
    """vLLM's logit_bias, added before the temperature."""

    def __init__(self, bias):
        self.bias = {int(token): value for token, value in bias.items()}

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        for token, value in self.bias.items():
            scores[:, token] += value
        return scores


class Sampler:
    """What vLLM does once prompts and sampling parameters have reached it."""

    logprobs_mode = "processed_logprobs"
    images_scaled = 1.0  # another limit on pixels than the trainer's processor has

    def __init__(self, model, processor):
        self.model, self.processor = model, processor
        self.image_token = model.config.image_token_id

    def lay_out(self, ids, pictures):
        """The n-th image token becomes as many as the n-th image has features; others stay."""
        counts, laid = [self.features(picture) for picture in pictures], []
        for token in ids:
            laid += [token] * (counts.pop(0) if token == self.image_token and counts else 1)
        return laid

    def features(self, picture):
        grid = self.processor.image_processor(images=[self.scaled(picture)], return_tensors="pt")
        return int(grid["image_grid_thw"].prod()) // 4

    def scaled(self, picture):
        return picture.resize([round(side * self.images_scaled) for side in picture.size])

    @torch.no_grad()
    def sample(self, prompts, pictures, params):
        """Responses to laid-out prompts, and the log-probs that vLLM would report."""
        eos, pad = (getattr(self.processor.tokenizer, f"{n}_token_id") for n in ("eos", "pad"))
        prompts = [list(ids) for ids in prompts]
        flat = [self.scaled(picture) for row in pictures for picture in row or []]
        for ids, row in zip(prompts, pictures, strict=True):
            # features fill the first places; the token's untrained embedding stays in the others
            places = [i for i, token in enumerate(ids) if token == self.image_token]
            for place in places[sum(map(self.features, row or [])) :]:
                ids[place] = pad
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        inputs = {"input_ids": ids, "attention_mask": mask}
        if flat:
            inputs |= self.processor.image_processor(images=flat, return_tensors="pt")
            inputs["mm_token_type_ids"] = (ids == self.image_token).int()
        found = self.model.generate(
            **inputs,
            do_sample=True,
            temperature=params["temperature"],
            top_p=params["top_p"],
            top_k=params["top_k"],
            max_new_tokens=params["max_tokens"],
            eos_token_id=eos,
            pad_token_id=pad,
            logits_processor=LogitsProcessorList([Bias(params.get("logit_bias") or {})]),
            output_scores=True,
            output_logits=True,
            return_dict_in_generate=True,
        )
        kind = found.scores if self.logprobs_mode == "processed_logprobs" else found.logits
        tables = torch.stack(kind, 1).float().log_softmax(-1)
        responses, log_probs = [], []
        for row, sampled in enumerate(found.sequences[:, width:].tolist()):
            end = sampled.index(eos) + 1 if eos in sampled else len(sampled)
            responses.append(sampled[:end])
            log_probs.append([tables[row, i, t].item() for i, t in enumerate(sampled[:end])])
        return responses, log_probs


class FakeEngine(Sampler):
    """`vllm.LLM`, in the trainer's process."""

    def generate(self, prompts, sampling_params, use_tqdm):
        pictures = [row.get("multi_modal_data", {}).get("image") for row in prompts]
        pictures = [[p] if p is not None and not isinstance(p, list) else p for p in pictures]
        laid = [
            self.lay_out(row["prompt_token_ids"], images or [])
            for row, images in zip(prompts, pictures, strict=True)
        ]
        sampled = zip(laid, *self.sample(laid, pictures, vars(sampling_params)), strict=True)
        return [
            SimpleNamespace(
                prompt_token_ids=ids,
                outputs=[
                    SimpleNamespace(
                        token_ids=response,
                        logprobs=[
                            {token: SimpleNamespace(logprob=value, rank=1)}
                            for token, value in zip(response, log_probs, strict=True)
                        ],
                    )
                ],
            )
            for ids, response, log_probs in sampled
        ]


class FakeServer(Sampler):
    """TRL's client of `vllm serve`, and the server behind it."""

    def get_server_info(self):
        return {"model_config": {"logprobs_mode": self.logprobs_mode}}

    def image_features(self, images):
        return [
            row and {"pictures": row, "mm_placeholders": {"image": [{}] * len(row)}}
            for row in images
        ]

    def generate(self, prompts, features=None, **params):
        params |= json.loads(json.dumps(params.pop("generation_kwargs")))  # it goes over HTTP
        features = features or [None] * len(prompts)
        for ids, row in zip(prompts, features, strict=True):
            if row:  # laid out already: every image has its run
                places = row["mm_placeholders"]["image"]
                assert [p["length"] for p in places] == [self.features(p) for p in row["pictures"]]
                assert all(ids[p["offset"]] == self.image_token for p in places)
        each = [i for i in range(len(prompts)) for _ in range(params["n"])]
        responses, log_probs = self.sample(
            [prompts[i] for i in each],
            [features[i] and features[i]["pictures"] for i in each],
            params,
        )
        return {
            "prompt_ids": list(prompts),
            "completion_ids": responses,
            "logprobs": [[[value] for value in row] for row in log_probs],
            "logprob_token_ids": [[[token] for token in row] for row in responses],
        }


class WithoutVLLM(VLLMGeneration):
    """TRL's own code, but for what it asks of vLLM."""

    def _init_vllm(self):
        kind = FakeServer if self.mode == "server" else FakeEngine
        fake = kind(self.model, self.processing_class)
        setattr(self, "vllm_client" if self.mode == "server" else "llm", fake)
        self.fake, self.synced = fake, 0

    def sync_weights(self):
        self.synced += 1


@pytest.fixture
def make(tiny, tmp_path, monkeypatch):
    """A trainer on a fresh copy of the tiny model, on 2 prompts x 4 responses a step."""
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", WithoutVLLM)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)

    def build(algorithm, rows=None, dynamic_sampling=None, model=None, **settings):
        settings.setdefault("vllm_importance_sampling_mode", "token_truncate")
        args = GRPOConfig(
            **{
                "output_dir": str(tmp_path),
                "per_device_train_batch_size": 8,
                "num_generations": 4,
                "max_completion_length": 6,
                "max_steps": 1,
                "learning_rate": 1e-3,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "use_cpu": True,
                "bf16": False,
                "gradient_checkpointing": False,
                "disable_tqdm": True,
                "use_vllm": True,
                **settings,
            }
        )
        return PerceptionGRPOTrainer(
            algorithm=algorithm,
            model=copy.deepcopy(model or tiny.model),
            reward_funcs=even_length,
            train_dataset=rows or digits.rows(4, seed=1),
            processing_class=tiny.processor,
            dynamic_sampling=dynamic_sampling,
            args=args,
        )

    return build


def rollout(trainer, prompts=(0, 1)):
    """One generation batch, scored, as TRL hands it to its loss."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    torch.manual_seed(0)
    rows = [trainer.train_dataset[i] for i in prompts for _ in range(4)]
    return trainer._generate_and_score_completions(rows)


def several_images():
    """Rows with two images, one and none."""
    made = digits.rows(3, seed=1)
    made[0]["images"] = [made[0]["images"][0], made[1]["images"][0].resize((32, 48))]
    made[2]["images"] = []
    return made


# ---------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("ids", "images", "expected"),
    [
        ([1, IMAGE, IMAGE, IMAGE, 2], 1, [1, IMAGE, 2]),
        ([IMAGE, IMAGE, 5, IMAGE, IMAGE, IMAGE], 2, [IMAGE, 5, IMAGE]),
        ([1, IMAGE, IMAGE, IMAGE, IMAGE, 2], 2, [1, IMAGE, IMAGE, 2]),  # they touch
        ([1, IMAGE, 2], 1, [1, IMAGE, 2]),  # collapsed already
        ([4, 4, 4, 2, 2], 0, [4, 4, 4, 2, 2]),  # other tokens may repeat
    ],
)
def test_each_image_becomes_one_token(ids, images, expected):  # T57
    assert vllm.collapse(ids, IMAGE, images) == expected


@pytest.mark.parametrize(
    ("ids", "images"),
    [
        ([IMAGE, 1, IMAGE, IMAGE], 3),  # which two of the three touch?
        ([IMAGE, 1, IMAGE], 1),  # tiles
        ([1, 2], 1),
        ([1, IMAGE], 0),
    ],
)
def test_images_that_cannot_be_told_apart_are_refused(ids, images):
    with pytest.raises(ValueError, match=rf"{images} image\(s\) lie in \d runs of image tokens"):
        vllm.collapse(ids, IMAGE, images)


def checked(answer, expands=True):
    """`CheckedGenerate` around an engine that answers so, and what the engine was sent."""
    asked = {}

    def generate(**kwargs):
        asked.update(kwargs)
        return answer

    return vllm.CheckedGenerate(generate, expands, IMAGE, frozenset({IMAGE, 8})), asked


def test_only_an_engine_that_expands_gets_collapsed_prompts():
    prompts = [[1, IMAGE, IMAGE, 2], [3, 3]]
    images = [["picture"], None]
    answer = (prompts, [[5], [6]], [[[-1.0]], [[-2.0]]], [[[5]], [[6]]])
    for expands, sent in ((True, [[1, IMAGE, 2], [3, 3]]), (False, prompts)):
        generate, asked = checked(answer, expands)
        assert generate(prompts, images, 4, profiler="p") == answer
        assert asked == {
            "prompts": sent,
            "images": images,
            "num_generations": 4,
            "profiler": "p",
        }
    generate, asked = checked(answer)
    generate(prompts, None, 4)  # no row has an image
    assert asked["prompts"] == prompts


def test_the_trainer_keeps_its_own_prompts_where_vllm_returns_what_it_was_sent():
    prompts = [[1, IMAGE, IMAGE, 2]]
    generate, _ = checked(([[1, IMAGE, 2]], [[5]], None, None))
    assert generate(prompts, [["picture"]], 1)[0] == prompts


def test_a_prompt_that_vllm_laid_out_otherwise_is_refused_with_both_lengths():  # T57
    generate, _ = checked(([[1, IMAGE, IMAGE, IMAGE, 2]], [[5]], None, None))
    with pytest.raises(
        ValueError, match=r"has 4 tokens, 2 of them .* made 5 of it, with 3\..*twice"
    ):
        generate([[1, IMAGE, IMAGE, 2]], [["picture"]], 1)


def test_a_response_with_a_picture_token_is_refused():  # T55
    generate, _ = checked(([[1], [1]], [[5], [7, 8]], None, None))
    with pytest.raises(ValueError, match=r"response 1 holds the tokens \[8\]"):
        generate([[1], [1]], None, 1)


def test_trl_calls_vllm_as_it_did(monkeypatch):
    found = list(inspect.signature(VLLMGeneration.generate).parameters)
    assert found[1:] == list(inspect.signature(vllm.CheckedGenerate.__call__).parameters)[1:]
    monkeypatch.setattr(VLLMGeneration, "generate", lambda self, prompts: None)
    with pytest.raises(ImportError, match=r"VLLMGeneration\.generate takes \['self', 'prompts'\]"):
        support.check_methods()


# ---------------------------------------------------------------------------- sampling


def test_the_ban_joins_what_was_asked_for():
    asked = {"seed": 3, "logit_bias": {"5": 1.5, "8": -100}}
    assert with_ban(asked, {8, 9}) == {"seed": 3, "logit_bias": {5: 1.5, 8: BAN, 9: BAN}}
    assert asked["logit_bias"] == {"5": 1.5, "8": -100}  # left alone
    assert with_ban({"allowed_token_ids": [5]}, {9}) == {
        "allowed_token_ids": [5],
        "logit_bias": {9: BAN},
    }


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"logit_bias": {9: 2.0}}, r"\['logit_bias'\] gives 2.0 to token 9"),
        ({"logit_bias": {9: -5.0}}, r"\['logit_bias'\] gives -5.0 to token 9"),
        ({"allowed_token_ids": [1, 9]}, r"\['allowed_token_ids'\] holds 9"),
        ({"suppress_tokens": [4]}, r"use logit_bias=\{token: -100\} for each of \[4\]"),
    ],
)
def test_what_contradicts_the_ban_is_named(asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        with_ban(asked, {9})


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_no_picture_token_is_ever_sampled(make, tiny, mode):  # T55: a model that wants nothing else
    trainer = make(Algorithm(), vllm_mode=mode, generation_kwargs={"logit_bias": {0: -100}})
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    banned = [tiny.processor.tokenizer.convert_tokens_to_ids(name) for name in names]
    assert trainer.vllm_generation.generation_kwargs == {
        "logit_bias": {0: -100, **dict.fromkeys(banned, BAN)}
    }
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight[banned] *= 20
    trainer.aligned = True  # what was banned had nearly all the mass
    batch = rollout(trainer)
    assert not torch.isin(batch["completion_ids"], torch.tensor(banned)).any()
    trainer.vllm_generation.generation_kwargs = {}
    with pytest.raises(ValueError, match="vLLM did not heed logit_bias"):
        rollout(trainer)


@pytest.mark.parametrize("engine", [True, False])
def test_truncated_sampling_is_warned_of(make, engine, recwarn):  # T35
    make(PGPO(), use_vllm=engine, top_k=-1)
    make(PGPO(estimator="kl"), use_vllm=False, top_p=0.9)  # nothing there is estimated
    assert not [w for w in recwarn if "policy itself" in str(w.message)]
    with pytest.warns(UserWarning, match=r"top_p=0\.9, min_p=0\.1: .*the dependency") as caught:
        make(PGPO(), use_vllm=engine, top_p=0.9, generation_kwargs={"min_p": 0.1})
    (message,) = [str(w.message) for w in caught if "policy itself" in str(w.message)]
    assert ("the importance ratio" in message) == engine


def test_another_temperature_than_the_scoring_one_is_refused(make):  # T22
    with pytest.raises(ValueError, match=r"scored at temperature 1\.0; set temperature"):
        make(PGPO(), generation_kwargs={"temperature": 0.7})
    make(PGPO(), temperature=0.7, generation_kwargs={"temperature": 0.7})


# ---------------------------------------------------------------------------- the whole


def test_families_of_several_runs_per_image_are_refused(make):  # T57
    with pytest.raises(ValueError, match="'idefics3': its images are several runs"):
        make(Algorithm(), model=build("idefics3").model)


def test_dropping_whole_responses_is_warned_of(make):  # T58
    with pytest.warns(UserWarning, match="takes the gradient from a whole response"):
        make(PGPO(), vllm_importance_sampling_mode="sequence_mask")


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_a_rollout_of_vllm_is_the_plain_one(make, mode, monkeypatch):  # T22, T57
    plain = rollout(make(PGPO(), rows=several_images(), use_vllm=False))
    trainer = make(PGPO(), rows=several_images(), vllm_mode=mode)
    asked = []
    theirs = GRPOTrainer._get_per_token_logps_and_entropies
    monkeypatch.setattr(
        GRPOTrainer,
        "_get_per_token_logps_and_entropies",
        lambda *a, **k: asked.append(1) or theirs(*a, **k),
    )
    batch = rollout(trainer)
    for name in ("prompt_ids", "completion_ids", "completion_mask", "pixel_values"):
        assert batch[name].equal(plain[name]), name
    assert_close(batch["advantages"], plain["advantages"], atol=1e-5, rtol=1e-5)
    assert not asked  # old log-probs are those of the sweep that scores views
    # in the trainer's the banned tokens have their share, a hundredth or two of this model's mass
    gap = batch["sampling_per_token_logps"] - batch["old_per_token_logps"]
    gap = gap[batch["completion_mask"].bool()]
    assert gap.min() > 0 and gap.max() < 0.05
    (mean,) = trainer._metrics["train"]["sampling/alignment_mean"]
    assert gap.min() < mean < gap.max()
    assert trainer.aligned and trainer.vllm_generation.synced == 1


def as_trl_has_it(trainer):
    """Take our side of vLLM away, but for the comparison of log-probs."""
    engine = trainer.vllm_generation
    engine.generate = engine.generate.generate
    return engine


def test_images_laid_out_twice_are_refused_by_either_check(make):  # T57
    plain = rollout(make(PGPO(), use_vllm=False))
    trainer = make(PGPO())
    engine = trainer.vllm_generation
    engine.generate = replace(engine.generate, expands=False)
    # 48 x 32 pixels are 3 x 2 image tokens; the first of the 6 becomes 6 once more
    with pytest.raises(ValueError, match=r"6 of them image tokens; vLLM made \d+ of it, with 11\."):
        rollout(trainer)
    as_trl_has_it(trainer)
    with pytest.raises(ValueError, match=r"differ by 0\.[2-9]\d+ nats on average"):
        rollout(trainer)
    trainer.aligned = True
    assert not rollout(trainer)["completion_ids"].equal(plain["completion_ids"])


def test_images_that_vllm_resizes_otherwise_are_refused(make):
    trainer = make(PGPO())
    trainer.vllm_generation.fake.images_scaled = 2.0
    with pytest.raises(ValueError, match=r"6 of them .* with 24\..*model's own folder"):
        rollout(trainer)


def test_log_probs_that_are_raw_are_refused_at_another_temperature(make):  # T22
    for mode in ("colocate", "server"):
        trainer = make(PGPO(), vllm_mode=mode, temperature=0.5)
        rollout(trainer)
        assert trainer.aligned
        trainer.aligned, trainer.vllm_generation.fake.logprobs_mode = False, "raw_logprobs"
        with pytest.raises(ValueError, match=r"raw instead of processed at temperature 0\.5"):
            rollout(trainer)


def probed(trainer, batch, gaps):
    """What the probe says if vLLM's log-probs lay so far from the trainer's."""
    ours = score_views(trainer.model, seam.read(batch), {}).log_probs
    trainer._metrics["train"].clear()
    return vllm.check_alignment(trainer, {**batch, "sampling_per_token_logps": ours - gaps})


def test_the_probe_lets_rounding_pass_and_gives_its_numbers(make):
    trainer = make(Algorithm(), max_completion_length=4)
    batch = rollout(trainer)
    batch["completion_mask"][:] = 1
    # 8 responses of 4 tokens, of which the first to each of 2 prompts are compared: 8 tokens
    gaps = torch.full((8, 4), 7.0)
    gaps[[0, 4]] = torch.tensor([[0.05, -0.05, 0.0, 0.0], [0.1, 0.0, 0.0, -0.2]])
    assert probed(trainer, batch, gaps)
    (mean,) = trainer._metrics["train"]["sampling/alignment_mean"]
    assert mean == pytest.approx(0.4 / 8, abs=1e-5)

    gaps[4, 3] = -0.6  # 0.8 / 8 is no longer below the limit, and one of 8 is far
    gaps[4, 2] = 0.01
    message = (
        r"by 0\.101 nats on average and by 0\.60 at most over 8 tokens, 12% of them by .* 0\.5"
    )
    with pytest.raises(ValueError, match=message):
        probed(trainer, batch, gaps)
    gaps[4, 3] = torch.nan  # unknown to vLLM: 0.21 over 7 tokens
    assert probed(trainer, batch, gaps)
    assert trainer._metrics["train"]["sampling/alignment_mean"] == [pytest.approx(0.03, abs=1e-5)]
    batch["completion_mask"][0] = 0  # truncated, and masked: the next response speaks (T56)
    with pytest.raises(ValueError, match=r"by 7\.00 at most"):
        probed(trainer, batch, gaps)
    batch["completion_mask"][:] = 0
    assert not probed(trainer, batch, gaps)
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight[:] = torch.nan
    batch["completion_mask"][:] = 1
    with pytest.raises(ValueError, match="by nan nats on average"):
        vllm.check_alignment(trainer, {**batch, "sampling_per_token_logps": gaps})


def test_images_are_probed_first_and_text_does_not_vouch_for_them(make, monkeypatch):
    trainer = make(Algorithm(), rows=several_images())
    rollout(trainer, prompts=(2, 2))
    assert not trainer.aligned  # no row had an image
    batch = rollout(trainer, prompts=(2, 1))
    assert trainer.aligned
    monkeypatch.setattr(vllm, "PROBED", 1)
    gaps = torch.zeros(batch["completion_ids"].shape)
    gaps[4:] = 1.0  # the response to the image, not the first row
    with pytest.raises(ValueError, match=r"1\.000 nats on average"):
        probed(trainer, batch, gaps)


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_training_with_vllm(make, mode):
    trainer = make(
        PGPO(),
        rows=several_images(),
        vllm_mode=mode,
        max_steps=2,
        num_iterations=2,
        dynamic_sampling=DynamicSampling(max_rounds=2),
    )
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert any(not p.equal(start[name]) for name, p in trainer.model.named_parameters())
    lines = (trainer.run_folder / "metrics.jsonl").read_text().splitlines()
    first, second, *_ = map(json.loads, lines)
    assert 0 < first["sampling/alignment_mean"] < 0.05
    assert "sampling/alignment_mean" not in second  # it is looked at once
    assert first["sampling/importance_sampling_ratio/max"] < 1  # for the share of what is banned
    assert first["dependency/mean"] > 0 and first["grad_norm"] > 0
