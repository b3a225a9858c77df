"""Sizes of published models, and memory and work worked by hand for Qwen2.5-VL-3B."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_families
import torch
from peft import LoraConfig, get_peft_model
from published_configs import PUBLISHED
from transformers import AutoConfig

from sightline.estimate import logits_avoided, memory, moved_below, peak, work
from sightline.job import Job
from sightline.model_shape import ADAPTED, count, shape_of
from sightline.views import AddNoise, Blind, MaskPatches, TextOnlyPrompt

P = 3_754_622_976  # parameters of Qwen2.5-VL-3B, as its page on the Hub says


@pytest.fixture(scope="module")
def shape():
    config = dict(PUBLISHED["Qwen/Qwen2.5-VL-3B-Instruct"])
    return shape_of(AutoConfig.for_model(config.pop("model_type"), **config))


@pytest.fixture
def job(shape):
    """6 responses of 150 + 256 + 94 = 500 tokens on one process, in update passes of 2."""

    def build(processes=1, sharding="none", rank=0, questions=100, **settings):
        args = {
            "per_device_train_batch_size": 2,
            "steps_per_generation": 3,
            "gradient_accumulation_steps": 3,
            "num_iterations": 1,
            "num_generations": 3,
            "max_completion_length": 94,
            "max_steps": -1,
            "num_train_epochs": 2,
            "model_init_kwargs": {"dtype": "bfloat16"},
            "bf16": True,
            "fp16": False,
            "use_vllm": False,
            "vllm_mode": "colocate",
            "vllm_enable_sleep_mode": True,
            "vllm_tensor_parallel_size": 1,
            "vllm_gpu_memory_utilization": 0.3,
            "vllm_importance_sampling_correction": True,
            "optim": "adamw_torch_fused",
            "gradient_checkpointing": True,
            "beta": 0.0,
        }
        made = SimpleNamespace(**{**args, **settings})
        # 256 image tokens are 256 x 28 x 28 pixels
        return Job(shape, made, processes, sharding, rank, questions, (28 * 28, 200_704))

    return build


def sizes(job):
    return {item.name: item.size for item in memory(job)}


def flops(job, views):
    return {p.name.split(":")[0]: p.flops for p in work(job, views)}


def test_parameters_are_those_that_were_published(shape):
    # a layer: q 2048 x 2048 + 2048, k and v 2048 x 256 + 256 each, o 2048 x 2048,
    # MLP 3 x 2048 x 11008, norms 2 x 2048; together 77,076,992, times 36, and a last norm
    assert shape.parameters == P
    assert shape.language.parameters == 36 * 77_076_992 + 2048
    # what is left of all but the word table, which is the head as well
    assert shape.vision.parameters == P - 36 * 77_076_992 - 2048 - 151_936 * 2048
    assert (shape.cell, shape.patches, shape.patch_values) == (28, 4, 2 * 3 * 14 * 14)
    # in + out: q and o 4096, k and v 2304, three of the MLP 13056; times 36 layers
    assert shape.adapters(2) == 2 * 36 * (2 * 4096 + 2 * 2304 + 3 * 13_056)
    assert shape.drops and shape.dtype == "bfloat16"


def test_a_head_of_its_own_is_no_part_of_the_tower():
    config = dict(PUBLISHED["Qwen/Qwen2.5-VL-7B-Instruct"])
    seven = shape_of(AutoConfig.for_model(config.pop("model_type"), **config))
    tables = 2 * 152_064 * 3584
    assert seven.parameters == 8_292_166_656  # as its page says
    assert seven.parameters == seven.language.parameters + seven.vision.parameters + tables


def test_parameters_equal_those_of_models_that_are_built(tiny):
    for model in (tiny.model, tiny_families.build("qwen2_vl").model):
        shape = shape_of(model.config)
        assert shape.parameters == count(model)
        decoder = count(model.get_decoder()) - model.get_input_embeddings().weight.numel()
        assert shape.language.parameters == decoder
        assert shape.vision.parameters == count(model.base_model.visual)


def test_adapters_equal_those_that_peft_adds(tiny):
    config = LoraConfig(r=3, target_modules=ADAPTED)
    # of a copy without weights, for PEFT changes the model it is given
    with torch.device("meta"):
        model = get_peft_model(type(tiny.model)(tiny.model.config), config)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == shape_of(tiny.model.config).adapters(3)
    assert all(".language_model." in name for name in trained)


def test_families_without_a_known_image_size_are_refused():
    config = tiny_families.build("smolvlm").model.config
    with pytest.raises(ValueError, match="an image of 'smolvlm' takes"):
        shape_of(config)


def test_what_is_always_there_when_every_gpu_holds_all_of_it(job):
    alone = sizes(job())
    assert alone["weights"] == alone["gradients"] == 2 * P and alone["optimizer"] == 4 * P
    assert "DDP's buckets" not in alone and "autocast's copies" not in alone
    assert sizes(job(processes=2))["DDP's buckets"] == 2 * P
    for optimizer, each in (("paged_adamw_8bit", 2), ("sgd", 0), ("lion_32bit", 4)):
        assert sizes(job(optim=optimizer))["optimizer"] == each * P
    # TRL's default: float32, which bf16 copies
    full = sizes(job(model_init_kwargs=None))
    assert (full["weights"], full["optimizer"], full["autocast's copies"]) == (4 * P, 8 * P, 2 * P)


def test_what_is_always_there_when_it_is_shared(job):
    # two GPUs: float32 weights, gradients, two moments: 16 bytes / 2; and two word tables gathered
    fsdp = sizes(job(processes=2, sharding="fsdp"))
    assert fsdp["weights"] == fsdp["gradients"] == 2 * P and fsdp["optimizer"] == 4 * P
    assert fsdp["gathered weights"] == 2 * 2 * 151_936 * 2048
    assert "DDP's buckets" not in fsdp


def test_adapters_are_all_that_has_gradients(job):
    lora, count = sizes(job(processes=2, rank=8)), 8 * 1_870_848
    assert lora["frozen weights"] == 2 * P
    assert lora["adapters"] == lora["gradients"] == lora["DDP's buckets"] == 4 * count
    assert lora["optimizer"] == 8 * count
    # one block of the frozen tower at a time: 2 x 256 x 4 patches of 63,200 bytes
    assert lora["activations, vision tower"] == 2048 * 63_200


def test_activations(job):
    # language, per token: 2 (6 x 2048 + 2 x 2048 + 2 x 256 + 4 x 11008) + 8 x 2048 = 138,240 bytes
    # vision, per patch: 2 (6 x 1280 + 2 x 1280 + 2 x 1280 + 4 x 3420) + 8 x 1280 = 63,200 bytes
    some, every = sizes(job()), sizes(job(gradient_checkpointing=False))
    tokens, patches = 2 * 500, 2 * 256 * 4
    assert every["activations, language model"] == 36 * tokens * 138_240
    assert some["activations, language model"] == tokens * (36 * 2 * 2048 + 138_240)
    assert every["activations, vision tower"] == 32 * patches * 63_200
    assert some["activations, vision tower"] == patches * (32 * 2 * 1280 + 63_200)
    assert some["one forward pass"] == tokens * 138_240 + patches * 63_200
    # 6 responses, 1024 patches, 1176 float32
    assert some["pixels of the rollout batch"] == 6 * 1024 * 1176 * 4
    assert logits_avoided(job()) == 2 * 94 * 151_936 * 4


def test_generation(job):
    # keys and values of 2 heads x 128 in 36 layers, 2 bytes each: 36,864 bytes per token
    plain = sizes(job())
    assert plain["cache of keys and values"] == 6 * 500 * 36_864
    assert plain["reading the prompts"] == 6 * 406 * 2 * (2 * 2048 + 3 * 11_008)
    vllm = {i.name: i for i in memory(job(use_vllm=True, vllm_tensor_parallel_size=2))}
    assert vllm["vLLM's weights"].size == P and vllm["vLLM's cache"].size == 500 * 36_864
    assert vllm["vLLM's weights"].phase == "generation"
    awake = memory(job(use_vllm=True, vllm_enable_sleep_mode=False))
    assert {i.phase for i in awake if "vLLM" in i.name} == {"always"}
    assert not [i for i in memory(job(use_vllm=True, vllm_mode="server")) if "cache" in i.name]


def test_the_peak_is_that_of_the_largest_phase(job):
    made = memory(job())
    always = sum(item.size for item in made if item.phase == "always")
    update = sum(item.size for item in made if item.name.startswith("activations"))
    assert peak(made) == always + update
    # of 64 times the rows, the cache is larger than what an update pass of 2 keeps
    made = memory(job(steps_per_generation=192))
    always = sum(item.size for item in made if item.phase == "always")
    generation = sum(item.size for item in made if item.phase == "generation")
    assert peak(made) == always + generation


def test_steps_are_those_that_trl_takes(job):
    # 100 questions fill 50 batches of 2 prompts, each one step; two epochs
    assert (job().steps, job().rollouts, job().responses, job().prompts) == (100, 100, 6, 2)
    # two processes: 25 batches of 4 prompts; an epoch of 99 questions drops 3
    assert job(processes=2, questions=99).steps == 2 * 24
    # 6 micro-steps a batch in steps of 3: two updates; twice over: four
    assert job(steps_per_generation=6, questions=8).steps == 2 * 2 * 2
    twice = job(steps_per_generation=6, num_iterations=2, questions=8)
    assert (twice.steps, twice.rollouts) == (2 * 2 * 4, 4)
    assert (job(max_steps=7).steps, job(max_steps=7).rollouts) == (7, 7)


def test_work_of_plain_grpo(job):
    tower = 2 * 668_684_288 * 1024
    # 2 per parameter and token, and 4 x 2048 x 36 for half of the 500 x 500 pairs
    body = 2 * 2_774_773_760 * 500 + 2 * 36 * 2048 * 500**2
    head = 2 * 2048 * 151_936 * 94
    clean = tower + body + head
    assert flops(job(), {}) == {
        "generation": clean,
        "update": 4 * (tower + body) + 3 * head,  # forward, again, and twice that backward
    }
    assert flops(job(gradient_checkpointing=False), {})["update"] == 3 * clean
    frozen = flops(job(rank=8), {})["update"]
    assert frozen == tower + 3 * body + 2 * head
    more = flops(job(beta=0.1, steps_per_generation=6, num_iterations=2), {})
    assert more["update"] == 2 * flops(job(), {})["update"]
    assert more["old log-probs"] == more["reference model"] == clean
    assert "old log-probs" in flops(job(use_vllm=True), {})


def test_work_of_the_views(job):
    text = 2 * 2_774_773_760 * 244 + 2 * 36 * 2048 * 244**2 + 2 * 2048 * 151_936 * 94
    views = {
        "blind": Blind(),
        "patches": MaskPatches(),
        "noise": AddNoise(),
        "none": TextOnlyPrompt(),
    }
    found = flops(job(), views)
    assert found["view blind"] == found["view none"] == text
    assert found["view patches"] == found["view noise"] == found["the image again"]
    assert found["the image again"] == found["generation"]
    assert [p.extra for p in work(job(), views)] == [False, False] + 5 * [True]
    assert flops(job(), {"blind": Blind(by="mask")})["view blind"] == found["view patches"]
    keeps = replace(job(), shape=replace(job().shape, drops=False))
    assert flops(keeps, {"blind": Blind()})["view blind"] == found["view patches"]
    # in float32 the clean pass of scoring is the one that TRL asks for
    exact = job(model_init_kwargs=None, bf16=False, steps_per_generation=6)
    assert "the image again" not in flops(exact, views) and "old log-probs" in flops(exact, views)


def test_a_dtype_that_is_not_known_is_named(job):
    assert job(model_init_kwargs={"dtype": "auto"}).loaded_width == 2
    with pytest.raises(ValueError, match=r"dtype must be one of .* got 'int4'"):
        memory(job(model_init_kwargs={"dtype": "int4"}))


@pytest.mark.parametrize("rate", [1e-6, 1e-5, 3e-4])
def test_weights_that_a_step_does_not_move_in_bfloat16(rate):
    edge = moved_below(rate)
    stays, moves = torch.tensor(edge).bfloat16(), torch.tensor(edge * 0.9).bfloat16()
    assert stays + torch.tensor(rate).bfloat16() == stays
    assert moves + torch.tensor(rate).bfloat16() != moves
