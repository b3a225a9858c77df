"""Rows that are decoded when they are read train as rows in memory do."""

import copy
import json

import torch
from trl import GRPOConfig

from sightline import PGPO
from sightline.data import load_rows, tables
from sightline.engines.trl import DynamicSampling, PerceptionGRPOTrainer
from sightline.prompts import PROMPTS
from sightline.rewards import THINK_BOXED
from sightline.tasks import digits


def reward(completions, answer, **columns):
    """Differs within most groups of random responses."""
    return [float(len(c[0]["content"]) % 2) for c in completions]


def test_a_file_of_rows_trains_as_the_rows_do(tiny, tmp_path, monkeypatch):
    decoded = []

    def counting(cell, limits):
        decoded.append(cell["path"])
        return decode(cell, limits)

    decode = tables.decode
    monkeypatch.setattr(tables, "decode", counting)
    rows = digits.rows(6, instruction=THINK_BOXED)
    rows[1]["images"] = []
    rows[2]["images"] *= 2
    with (tmp_path / "rows.jsonl").open("w") as file:
        for bare, row in zip(digits.rows(6), rows, strict=True):
            names = [f"{row['id']}.png"] * len(row["images"])
            for name, picture in zip(names, row["images"], strict=True):
                picture.save(tmp_path / name)
            problem = "<image>" * len(names) + bare["prompt"][0]["content"]
            line = {**row, "prompt": problem, "images": names}
            file.write(json.dumps(line) + "\n")
    loaded = load_rows(tmp_path / "rows.jsonl", prompt=PROMPTS["think-boxed"])
    weights = []
    for index, data in enumerate((rows, loaded.dataset)):
        trainer = PerceptionGRPOTrainer(
            model=copy.deepcopy(tiny.model),
            processing_class=tiny.processor,
            algorithm=PGPO(),
            reward_funcs=[reward],
            train_dataset=data,
            dynamic_sampling=DynamicSampling(2),
            args=GRPOConfig(
                output_dir=str(tmp_path / str(index)),
                per_device_train_batch_size=8,
                steps_per_generation=2,
                num_generations=4,
                max_completion_length=4,
                max_steps=2,
                learning_rate=1e-3,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                disable_tqdm=True,
            ),
        )
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any(not torch.equal(v, weights[0][n]) for n, v in tiny.model.state_dict().items())
    # both updates ask for the same 4 of 6 prompts: their pictures are decoded once (T63)
    assert len(set(decoded)) <= len(decoded) <= 7
