"""Every recipe loads, resolves and dry-runs, and its header says what the dry run says."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from published_configs import PUBLISHED
from transformers import AutoConfig

from sightline.algorithms import algorithm_class
from sightline.cli import main
from sightline.dry_run import SPEED
from sightline.estimate import memory, peak, work
from sightline.job import Job
from sightline.model_shape import shape_of
from sightline.run_arguments import RunArguments, parse

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
BASELINES = [name for name in RECIPES if "-baseline-" in name]
OF_ALGORITHMS = {
    key for name in ("pgpo", "vppo", "prpo") for key in vars(algorithm_class(name)()).keys()
}
# what makes GRPO of DAPO: its mean and clip, no dynamic sampling, no entropy penalty
OF_GRPO = {"loss_type", "epsilon_high", "entropy_penalty"} | {
    f"dynamic_sampling_{name}" for name in ("rounds", "reward", "short")
}


@cache
def content(name):
    return yaml.safe_load(RECIPES[name].read_text())


@cache
def header(name):
    lines = RECIPES[name].read_text().split("\n\n")[0].splitlines()
    return re.sub(r"\s+", " ", " ".join(line.removeprefix("#") for line in lines))


@cache
def published(model):
    config = dict(PUBLISHED[model])
    return shape_of(AutoConfig.for_model(config.pop("model_type"), **config))


@cache
def job(name):
    run, algorithm, args = parse(["--config", str(RECIPES[name])])
    pixels = run.min_pixels, run.max_pixels
    rest = run.processes, run.sharding, run.lora_rank, run.rows, pixels
    return Job(published(run.model), args, *rest), algorithm


@pytest.fixture(scope="module")
def model_folder(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.model.config.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_dry_runs(name, model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "--config", str(RECIPES[name]), "--model", str(model_folder), "--dry-run"]
    assert main(command) == 0
    out = capsys.readouterr().out
    recipe = content(name)
    assert re.search(rf"\nalgorithm: {recipe['algorithm']}\n", out)
    assert re.search(rf"\n  processes +{recipe['processes']}\n  rollout batches ", out)
    assert ("vLLM has not been run" in out) == recipe.get("use_vllm", False)
    assert ("FSDP has run on" in out) == (recipe["sharding"] != "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_a_header_says_how_to_launch_and_what_to_expect(name):
    recipe, said = content(name), header(name)
    command = f"sightline train --config recipes/{name}.yaml"
    if recipe["processes"] > 1:
        start = "accelerate launch --config_file recipes/accelerate/fsdp.yaml --num_processes"
        command = f"{start} {recipe['processes']} \\ -m {command}"
    assert f"launch: {command} memory:" in said
    planned, algorithm = job(name)
    assert f"memory: {peak(memory(planned)) / 2**30:.0f} GiB on each GPU at most" in said
    passes = [p for p in work(planned, algorithm.views()) if p.name != "generation"]
    flops = sum(p.flops for p in passes) * planned.rollouts * planned.responses
    assert f"time: {flops / 1e15:,.0f} PFLOP besides generation" in said
    assert (
        f" {flops / SPEED / planned.processes / 3600:.2g} hours on {recipe['processes']} " in said
    )
    extra = sum(p.flops for p in passes if p.extra)
    if extra:
        share = 100 * extra / (sum(p.flops for p in passes) - extra)
        assert f"The views are {share:.0f} % of that step" in said
    assert said.count("estimated") == 2 and said.count("not measured") == 2
    assert "source: " in said and "ours: " in said
    assert ("not public" in said) == (recipe["algorithm"] == "prpo")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_the_cards_it_names(name):
    planned, _ = job(name)
    (card,) = set(re.findall(r"of (?:a )?(\d+) GB cards?;", header(name)))
    room = 0.9 * int(card) * 1e9  # the rest is the context's and the allocator's
    items = memory(planned)
    assert peak(items) < room
    if planned.args.use_vllm:
        taken = planned.args.vllm_gpu_memory_utilization * int(card) * 1e9
        assert sum(i.size for i in items if i.phase == "always") + taken < room
        assert sum(i.size for i in items if i.phase == "generation") < taken


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_differs_only_in_what_it_must(name):
    base, kind = name.split("-baseline-")
    method, baseline = content(base), content(name)
    differing = {key for key in method | baseline if method.get(key, ...) != baseline.get(key, ...)}
    assert baseline["algorithm"] == "grpo"
    allowed = {"algorithm"} | OF_ALGORITHMS | (OF_GRPO if kind == "grpo" else set())
    assert differing <= allowed
    assert baseline["loss_type"] == kind
    # exactly these: the penalty is part of VPPO's DAPO baseline as well, methods table 10
    assert baseline.get("entropy_penalty") == (
        None if kind == "grpo" else method.get("entropy_penalty")
    )


def test_every_method_has_both_baselines_and_adapters_have_one():
    methods = {name for name in RECIPES if re.match("pgpo|vppo", name)} - set(BASELINES)
    assert set(BASELINES) == {f"{m}-baseline-{kind}" for m in methods for kind in ("dapo", "grpo")}
    for size in ("3b", "7b"):  # PRPO is compared with PGPO and its baselines
        pgpo, prpo = (content(f"{name}-qwen2.5-vl-{size}") for name in ("pgpo", "prpo"))
        differing = {key for key in pgpo | prpo if pgpo.get(key, ...) != prpo.get(key, ...)}
        assert differing <= {"algorithm"} | OF_ALGORITHMS
    for card in ("24gb", "80gb"):
        runs = [content(f"lora-{card}-{n}-qwen2.5-vl-3b") for n in ("pgpo", "vppo", "prpo", "dapo")]
        for run in runs:
            differing = {key for key in run | runs[0] if run.get(key, ...) != runs[0].get(key, ...)}
            assert differing <= {"algorithm"} | OF_ALGORITHMS
            assert run["lora_rank"] == 32 and run["processes"] == 1 and "use_vllm" not in run


@pytest.mark.parametrize(
    ("prefix", "prompts", "group", "update", "steps", "response", "penalty", "weights"),
    [
        # the papers' tables: 384 prompts, 3 updates of 128 prompts, 2 epochs = 202 x 3 steps
        ("pgpo-qwen2.5-vl-3b", 384, 5, 640, 606, 2048, 0.0, [0.9, 0.1]),
        ("pgpo-qwen2.5-vl-7b", 384, 5, 640, 606, 2048, 0.0, [0.9, 0.1]),
        ("prpo-qwen2.5-vl-3b", 384, 5, 640, 606, 2048, 0.0, [0.9, 0.1]),
        ("prpo-qwen2.5-vl-7b", 384, 5, 640, 606, 2048, 0.0, [0.9, 0.1]),
        ("vppo-qwen2.5-vl-7b", 384, 8, 1024, 606, 2048, 0.06, [1, 0]),
        ("vppo-qwen2.5-vl-32b", 384, 8, 1024, 606, 4096, 0.06, [1, 0]),
        ("vppo-qwen3-vl-8b", 384, 8, 1024, 390, 8192, 0.12, [1, 0]),
    ],
)
def test_recipes_hold_the_papers_settings(
    prefix, prompts, group, update, steps, response, penalty, weights
):
    planned, _ = job(prefix)
    args = planned.args
    per_update = planned.processes * args.per_device_train_batch_size
    per_update *= args.gradient_accumulation_steps
    assert (planned.prompts, args.num_generations, per_update) == (prompts, group, update)
    assert planned.steps == steps and planned.rollouts * 3 == steps
    assert args.max_completion_length == response and args.reward_weights == weights
    assert content(prefix).get("entropy_penalty", 0.0) == penalty
    assert (args.learning_rate, args.lr_scheduler_type) == (1e-6, "constant")
    assert (args.epsilon, args.epsilon_high, args.delta, args.beta) == (0.2, 0.28, 3.0, 0.0)
    assert (args.temperature, args.top_p, args.weight_decay) == (1.0, 0.99, 0.01)
    assert args.loss_type == "dapo" and args.max_grad_norm == 1.0 and args.warmup_steps == 0
    assert planned.pixels == (200_704, 1_003_520)
    # a checkpoint falls between two rollout batches, as far apart as VPPO's
    assert args.save_steps == 5 * 3


def test_every_algorithm_setting_is_the_published_one():
    for name in RECIPES:
        _, algorithm = job(name)
        assert algorithm == type(algorithm)()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ddp", "MULTI_GPU"), ("fsdp", "FSDP"), ("deepspeed_zero2", "DEEPSPEED")],
)
def test_accelerate_takes_its_files(name, kind):
    config = load_config_from_file(str(FOLDER / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type == kind and config.mixed_precision == "bf16"
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == 2


def test_the_page_on_recipes_says_what_their_heads_say():
    page = (FOLDER.parent / "docs" / "recipes.md").read_text()
    rows = dict(re.findall(r"^\| \[`(\S+)`\]\(\S+\) \| (.*) \|$", page, re.MULTILINE))
    assert set(rows) == set(RECIPES)
    for name, row in rows.items():
        gpus, memory_, steps, flops, hours, share = row.split(" | ")
        planned, said = job(name)[0], header(name)
        assert gpus.startswith(f"{planned.processes} x ") and f"memory: {memory_} GiB" in said
        assert steps == f"{planned.steps} / {planned.rollouts}"
        assert f"time: {flops} PFLOP" in said and f" {hours} hours on" in said
        assert (f"The views are {share} of" in said) == (share != "none")


def test_recipes_say_themselves_what_defaults_might_change():
    needed = {"algorithm", "model", "data", "rows", "prompt", "processes", "sharding", "seed"}
    needed |= {"min_pixels", "max_pixels", "model_init_kwargs", "save_strategy", "optim"}
    for name in RECIPES:
        assert needed <= set(content(name))
    assert needed - set(vars(RunArguments())) <= {
        "seed",
        "model_init_kwargs",
        "save_strategy",
        "optim",
    }
