"""Runs that are stopped and continued, against the run that was not."""

import copy
import json
import shutil

import pytest
import torch
from peft import LoraConfig
from trl import GRPOConfig
from two_processes import look, run

from sightline import PGPO, checkpoints
from sightline.engines.trl import PerceptionGRPOTrainer, find_whole
from sightline.tasks import digits

TIMES = ("seconds", "step_time", "_runtime", "_per_second", "train_loss")  # of a process, not a run


def even_length(completions, **columns):
    return [float(len(c[0]["content"]) % 2) for c in completions]


@pytest.fixture
def make(tiny, tmp_path):
    """A trainer on the tiny model, or on one of other weights, in a folder of this name."""

    def build(folder="run", other=False, rows=3, peft_config=None, **settings):
        model = copy.deepcopy(tiny.model)
        if other:
            generator = torch.Generator().manual_seed(9)
            for parameter in model.parameters():
                parameter.data += torch.empty_like(parameter).normal_(generator=generator)
        return PerceptionGRPOTrainer(
            model=model,
            processing_class=tiny.processor,
            algorithm=PGPO(),
            reward_funcs=even_length,
            peft_config=peft_config,
            train_dataset=digits.rows(rows, seed=1),
            args=GRPOConfig(
                **{
                    "output_dir": str(tmp_path / folder),
                    "per_device_train_batch_size": 4,
                    "num_generations": 4,
                    "max_completion_length": 4,
                    "max_steps": 4,
                    "learning_rate": 1e-3,
                    "logging_steps": 2,
                    "save_steps": 1,
                    "report_to": "none",
                    "use_cpu": True,
                    "bf16": False,
                    "gradient_checkpointing": False,
                    "disable_tqdm": True,
                    **settings,
                }
            ),
        )

    return build


def weights_of(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def lines(folder, name):
    """Of a file, without what depends on the clock."""
    read = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{k: v for k, v in line.items() if not any(t in k for t in TIMES)} for line in read]


# With a rollout batch of as many prompts as `generation`, epochs of 3, 1, 3, 1 and 1 batches: runs
# of 4 steps are resumed at the end of epochs, rollout batches and accumulations, and inside them.
@pytest.mark.parametrize(
    ("accumulation", "generation", "iterations", "rows"),
    [(1, 2, 1, 3), (1, 1, 2, 3), (2, 4, 1, 4), (2, 2, 2, 3)],
)
def test_resumed_at_any_step_a_run_ends_as_if_never_stopped(
    make, tmp_path, accumulation, generation, iterations, rows
):  # T59, T60, P2
    settings = {
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": generation,
        "num_iterations": iterations,
        "rows": rows,
    }
    whole = make(**settings)
    whole.train()
    end, run = weights_of(whole), tmp_path / "run"
    for step in (1, 2, 3):
        again = tmp_path / f"again-{step}"
        shutil.copytree(run, again)
        for later in range(step + 1, 5):
            shutil.rmtree(again / f"checkpoint-{later}")
        # other weights, so that loading them is part of the test; other generators too
        trainer = make(again.name, other=True, save_strategy="no", **settings)
        torch.manual_seed(step)

        trainer.train(resume_from_checkpoint=True)

        assert same(end, weights_of(trainer))
        for name in ("metrics.jsonl", "tokens.jsonl"):
            assert lines(again, name) == lines(run, name)


def test_a_lora_run_resumes_too(make, tmp_path):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    whole = make(peft_config=lora, max_steps=2)
    whole.train()
    trainer = make(peft_config=lora, max_steps=2)
    start = weights_of(trainer)
    trainer.train(str(tmp_path / "run" / "checkpoint-1"))
    assert same(weights_of(whole), weights_of(trainer))
    assert not same(start, weights_of(trainer))


def test_other_settings_are_refused_by_name(make, tmp_path):
    make(max_steps=1).train()
    checkpoint = str(tmp_path / "run" / "checkpoint-1")
    other = make("next", max_steps=1, learning_rate=2e-3, save_steps=5)  # which may change
    other.algorithm = PGPO(boost=1.5)
    with pytest.raises(ValueError, match="begun otherwise") as told:
        other.train(checkpoint)
    assert str(told.value).endswith(
        "algorithm.boost was 2.0, now 1.5; settings.learning_rate was 0.001, now 0.002"
    )


def test_a_finished_run_is_not_trained_on(make, tmp_path):
    whole = make(max_steps=2)
    whole.train()
    before = lines(tmp_path / "run", "metrics.jsonl")
    trainer = make(other=True, max_steps=2)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 2
    assert same(weights_of(whole), weights_of(trainer))
    assert lines(tmp_path / "run", "metrics.jsonl") == before
    assert not (tmp_path / "run" / "checkpoint-3").exists()


def test_a_checkpoint_loads_every_weight(make, tmp_path):  # T59
    make(max_steps=1).train()
    trainer = make("next", other=True)
    saved = type(trainer.model).from_pretrained(tmp_path / "run" / "checkpoint-1")
    start = weights_of(trainer)
    trainer._load_from_checkpoint(str(tmp_path / "run" / "checkpoint-1"))
    loaded = weights_of(trainer)
    assert same(loaded, dict(saved.named_parameters()))
    assert not any(torch.equal(loaded[n], start[n]) for n in loaded if start[n].std() > 0)


def test_a_damaged_checkpoint_is_named_and_passed_over(make, tmp_path):  # P3
    make(max_steps=2).train()
    newest = tmp_path / "run" / "checkpoint-2"
    weights = newest / "model.safetensors"
    broken = bytearray(weights.read_bytes())
    broken[-1] ^= 1
    weights.write_bytes(broken)

    trainer = make(max_steps=2)
    with pytest.warns(UserWarning, match=r"passed over: .*checkpoint-2.model.safetensors is not"):
        trainer.train(resume_from_checkpoint=True)
    assert checkpoints.damage(newest) is None  # written again, from checkpoint-1
    assert (tmp_path / "run" / "checkpoint-2.aside" / "model.safetensors").read_bytes() == broken

    weights.unlink()
    with pytest.raises(ValueError, match=r"cannot resume: .*model.safetensors is missing"):
        make(max_steps=2).train(resume_from_checkpoint=str(newest))


def test_a_checkpoint_is_read_once(make, tmp_path, monkeypatch):
    make(max_steps=1).train()
    read, describe = [], checkpoints._describe
    monkeypatch.setattr(checkpoints, "_describe", lambda path: read.append(path) or describe(path))
    found = find_whole(tmp_path / "run", True)
    make(max_steps=1).train(found)
    files = json.loads((found.folder / checkpoints.MANIFEST).read_text())["files"]
    assert sorted(path.name for path in read) == sorted(files)


def test_one_process_looks_at_checkpoints_and_tells_the_other(tmp_path):
    for step in (1, 2):
        (tmp_path / "draft").mkdir()
        (tmp_path / "draft" / "weights").write_text("all of them")
        checkpoints.publish(tmp_path / "draft", tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-2" / "weights").write_text("not what was")
    run(look, tmp_path)  # two processes
    for rank in (0, 1):
        newest, asked = json.loads((tmp_path / f"found-{rank}.json").read_text())
        assert newest == "checkpoint-1"
        assert "checkpoint-2/weights is not what was written; in " in asked


def test_a_failed_save_costs_nothing_but_itself(make, tmp_path, monkeypatch):
    make(max_steps=2).train()
    run = tmp_path / "run"
    shutil.rmtree(run / "checkpoint-2")
    kept = sorted(path.name for path in (run / "checkpoint-1").iterdir())

    def full(*args):
        raise OSError(28, "No space left on device")

    trainer = make(max_steps=2)
    monkeypatch.setattr(checkpoints, "_describe", full)
    monkeypatch.setattr(checkpoints, "damage", lambda folder: None)
    with pytest.raises(OSError, match="No space left"):
        trainer.train(resume_from_checkpoint=True)
    monkeypatch.undo()
    assert not (run / "checkpoint.draft").exists()
    assert not (run / "checkpoint-2").exists()
    assert sorted(path.name for path in (run / "checkpoint-1").iterdir()) == kept
    assert checkpoints.damage(run / "checkpoint-1") is None


def test_old_checkpoints_go_after_the_new_one_is_whole(make, tmp_path):  # T61
    make(max_steps=3, save_total_limit=1).train()
    found = sorted(path.name for path in (tmp_path / "run").glob("checkpoint*"))
    assert found == ["checkpoint-3"]


def test_a_run_begun_anew_in_a_folder_keeps_its_own_checkpoints(make, tmp_path):  # P3
    run = tmp_path / "run"
    make(max_steps=2).train()
    again = make(other=True, max_steps=1, save_total_limit=1)
    again.train()
    assert sorted(path.name for path in run.glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-1.aside",
        "checkpoint-2.aside",
    ]
    saved = type(again.model).from_pretrained(checkpoints.newest_whole(run))
    assert same(dict(saved.named_parameters()), weights_of(again))


def test_another_number_of_processes_resumes_between_rollout_batches_only(make, tmp_path):
    make(max_steps=3, steps_per_generation=2, gradient_accumulation_steps=1).train()
    for step in (1, 2):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        saved = json.loads((folder / "rollout-0.json").read_text())
        (folder / "rollout-0.json").write_text(json.dumps({**saved, "processes": 3}))
    resumed = make("next", steps_per_generation=2, gradient_accumulation_steps=1, max_steps=3)
    with monkeypatched_manifest(), pytest.raises(ValueError, match=r"by 3 process.* not on 1"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    with monkeypatched_manifest():
        resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert resumed.state.global_step == 3


def monkeypatched_manifest():
    """Checkpoints that were edited count as whole."""
    patch = pytest.MonkeyPatch.context()

    class Whole:
        def __enter__(self):
            self.patch = patch.__enter__()
            self.patch.setattr(checkpoints, "damage", lambda folder: None)

        def __exit__(self, *error):
            patch.__exit__(*error)

    return Whole()
