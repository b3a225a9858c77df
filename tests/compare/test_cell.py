"""A cell is an ordinary run, measured on the way; what it measures, by hand."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from sightline import tasks
from sightline.algorithms import ViewScores
from sightline.compare import cell, measure
from sightline.compare.cell import (
    Cell,
    Protocol,
    means_of,
    run_cell,
    weights_sha256,
    with_costs,
)
from sightline.compare.rules import LABELS, RULES, UNKNOWN
from sightline.compare.runs import compare_runs
from sightline.compare.trainer import labels_of
from sightline.compare.update_norm import EqualNormAdamW
from sightline.encoding import encode
from sightline.records import read_lines
from sightline.tiny_vlm import build_model, build_processor
from sightline.warm_start import save_weights, warm_start_path

TASK = "digits-sum-12-free"
PROTOCOL = Protocol(steps=2, measure_every=1, prompts=2, group_size=2, heldout=4, twins=2)


@pytest.fixture(scope="module")
def processor():
    return build_processor(tasks.load(TASK).corpus())


@pytest.fixture(scope="module")
def cells(tmp_path_factory, processor):
    """Two cells from random weights, of the same seed: one rule without views, one with labels."""
    folder, checked = tmp_path_factory.mktemp("cells"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(folder / "cache"))
        torch.set_num_threads(1)
        patch.setattr(cell, "check_control", lambda *args: checked.append(args[2:]))
        save_weights(build_model(processor, 3), warm_start_path(tasks.load(TASK), 3), torch.float32)
        for rule in ("uniform", "entropy-40"):
            path = folder / rule
            path.mkdir()
            run_cell(Cell(TASK, rule, 1e-4, 3), RULES[rule], PROTOCOL, path)
    (rows, texts), other = checked  # once a cell, of what it was asked and answered
    assert len(rows) == len(texts) == 4 and (rows, texts) == other
    return folder


def result(folder):
    return json.loads((folder / "result.json").read_text())


def points(folder):
    return result(folder)["points"]


def test_a_cell_leaves_a_run_folder_and_a_curve(cells):
    for rule in ("uniform", "entropy-40"):
        about = json.loads((cells / rule / "run.json").read_text())
        assert about["cell"] == {"task": TASK, "rule": rule, "learning_rate": 1e-4, "seed": 3}
        found = points(cells / rule)
        assert [point["step"] for point in found] == [0, 1, 2]
        assert found[0]["tokens"] == found[0]["passes"] == found[0]["seconds"] == 0
        assert found[2]["tokens"] > found[1]["tokens"] > 0 < found[1]["seconds"]
        assert found[0]["twin_accuracy"] is not None and found[1]["twin_accuracy"] is None
        assert len(read_lines(cells / rule / "heldout.jsonl")) == 4


def test_cells_of_a_seed_are_paired(cells):
    one, other = points(cells / "uniform"), points(cells / "entropy-40")
    starts = {result(cells / rule)["start_sha256"] for rule in ("uniform", "entropy-40")}
    assert len(starts) == 1
    assert {**one[0], "seconds": 0} == {**other[0], "seconds": 0}
    # the same questions and random numbers: in its first step it samples the same responses
    assert one[1]["tokens"] == other[1]["tokens"]
    # 4 responses a step; that with a view scores each twice besides
    first = [read_lines(cells / rule / "metrics.jsonl")[0] for rule in ("uniform", "entropy-40")]
    assert first[0]["entropy"] == first[1]["entropy"]  # over the tokens that were sampled
    assert [point["passes"] for point in one] == [0, 4, 8]
    assert other[1]["passes"] == 12


@pytest.mark.filterwarnings("ignore:step .* no row of the batch has an image")
def test_without_images_every_rule_is_uniform_credit_bit_for_bit(tmp_path, monkeypatch):
    task = tasks.load("text-only")
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    # random weights are never right; every other response is said to be
    monkeypatch.setattr(cell, "exact_answer", lambda completions, **columns: [1.0, 0.0] * 2)
    torch.set_num_threads(1)
    model = build_model(build_processor(task.corpus()), 3)
    save_weights(model, warm_start_path(task, 3), torch.float32)
    found = {}
    for rule in ("uniform", "pgpo", "vppo", "sightline"):  # the weights of all: test_rules
        folder = tmp_path / rule
        folder.mkdir()
        run_cell(Cell("text-only", rule, 1e-2, 3), RULES[rule], replace(PROTOCOL, steps=1), folder)
        lines = read_lines(folder / "metrics.jsonl")[:1]
        found[rule] = [[line[name] for name in ("loss", "grad_norm", "entropy")] for line in lines]
    assert all(norm > 0.01 for _, norm, _ in found["uniform"])
    assert all(curve == found["uniform"] for curve in found.values())


def test_measuring_changes_nothing_of_the_training(cells, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(cells / "cache"))
    seldom = replace(PROTOCOL, measure_every=2)
    run_cell(Cell(TASK, "uniform", 1e-4, 3), RULES["uniform"], seldom, tmp_path)
    often, rarely = (read_lines(path / "metrics.jsonl") for path in (cells / "uniform", tmp_path))
    assert len(often) == 3 and len(rarely) == 2  # and one at the end
    for name in ("entropy", "grad_norm", "completions/mean_length"):
        mean = (often[0][name] + often[1][name]) / 2
        assert rarely[0][name] == pytest.approx(mean, rel=1e-6)


def test_what_the_updates_were_like_is_kept(cells):
    uniform, entropy = (result(cells / rule)["training"] for rule in ("uniform", "entropy-40"))
    lines = [line for line in read_lines(cells / "uniform" / "metrics.jsonl") if "reward" in line]
    mean = sum(line["completions/mean_length"] for line in lines) / len(lines)
    assert uniform["completions/mean_length"] == pytest.approx(mean)
    assert "weights/largest" not in uniform and entropy["weights/largest"] == 1
    # neither a skipped step nor a line of the end, without a step, counts
    metrics = [{"reward": 0, "grad_norm": 1.0}, {"reward": 0, "grad_norm": 2.0}, {"grad_norm": 9}]
    metrics.append({"reward": 0, "grad_norm": None})
    assert means_of(metrics) == {"grad_norm": 1.5}


def test_starting_weights_are_told_apart(processor):
    model = build_model(processor, 3)
    before = weights_sha256(model)
    assert (
        before
        == weights_sha256(build_model(processor, 3))
        != weights_sha256(build_model(processor, 4))
    )
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert weights_sha256(model) != before


def test_two_runs_compare_by_question(cells):
    said = compare_runs(cells / "uniform", cells / "entropy-40")
    assert "4 held-out questions, second minus first" in said and "McNemar" in said
    with pytest.raises(ValueError, match=r"has no heldout\.jsonl"):
        compare_runs(cells / "uniform", cells)


def test_costs_are_sums_over_log_windows():
    line = {"reward": 0, "completions/mean_length": 10.0, "seconds/update": 3.0}
    scored = line | {"scoring/extra_forward_share": 1.5, "seconds/scoring": 1.0}
    metrics = [line | {"step": 2}, scored | {"step": 4}, {"step": 4, "train_runtime": 9}]
    found = with_costs([{"step": 0}, {"step": 2}, {"step": 4}], metrics, 8, 2)
    # windows of 2 steps of 8 responses: 160 tokens each; 16 passes, then 16 * 2.5; 6 s, then 8 s
    assert [point["tokens"] for point in found] == [0, 160, 320]
    assert [point["passes"] for point in found] == [0, 16, 56]
    assert [point["seconds"] for point in found] == [0, 6, 14]


def test_answers_are_told_apart(processor, monkeypatch):
    task = tasks.load(TASK)
    rows = [{"answer": "7", "reads": ["three", "four"], "question": ""}] * 4
    say = "<think> left is {} right is {} makes {} . </think> \\boxed{{{}}}".format
    texts = [
        say("three", "four", "seven", 7),  # all right
        say("three", "five", "seven", 7),  # misread, and the answer does not follow
        say("three", "five", "eight", 8),  # misread, and it follows
        "seven",  # outside the grammar
    ]
    monkeypatch.setattr(measure, "greedy_responses", lambda *args: texts)
    found = measure.answer(None, processor, task, rows, 9)
    assert found.right == [True, True, False, False]
    assert found.read == [True, False, False, False]
    assert found.follows == [True, False, True, None]
    assert found.numbers() == pytest.approx(
        {"accuracy": 0.5, "reading": 0.25, "reasoning": 2 / 3, "in_grammar": 0.75}
    )


def test_labels_fall_on_the_words_that_are_read(processor):
    task = tasks.load(TASK)
    rows = task.rows(2)
    texts = ["<think> left is three right is four makes seven . </think> \\boxed{7}", "no idea"]
    responses = encode(processor, rows, texts)
    labels = labels_of(processor.tokenizer, task, responses)
    tokens = processor.tokenizer.convert_ids_to_tokens(responses.response_ids[0].tolist())
    by_label = {
        name: [t for t, value in zip(tokens, labels[0].tolist(), strict=True) if value == number]
        for name, number in LABELS.items()
    }
    assert by_label["visual"] == ["Ġthree", "Ġfour"]
    assert by_label["answer"][0] == "Ġseven" and len(by_label["answer"]) == 2
    assert (labels[1][responses.mask[1]] == UNKNOWN).all()


def test_looking_counts_hits_among_the_most_dependent(processor, monkeypatch):
    task = tasks.load(TASK)
    text = "<think> left is three right is four makes seven . </think> \\boxed{7}"
    rows, texts = task.rows(2), [text, 20 * "hm "]  # the other, outside the grammar, is longer
    responses = encode(processor, rows, texts)
    kl = torch.zeros(responses.mask.shape)
    labels = labels_of(processor.tokenizer, task, responses)
    visual = (labels[0] == LABELS["visual"]).nonzero()[:, 0]
    kl[0, visual[0]], kl[0, 0] = 2.0, 1.0  # one visual token on top, then one that is not
    scored = type("Scored", (), {"views": {"blind": measure_scores(kl)}})
    monkeypatch.setattr(measure, "score_views", lambda *args, **kwargs: scored)
    found = measure.look(None, processor, task, rows, texts)
    # the second most dependent of all is not visual; and where all are 0, as many as there are
    assert found["precision_kl"] == 0.5
    assert found["precision_k3"] == pytest.approx(2 / int(responses.mask[0].sum()))
    # 3.0 and one of the two 2.0: a visual token for certain, and one of two
    values, wanted = torch.tensor([3.0, 2.0, 1.0, 2.0]), torch.tensor([True, True, False, False])
    assert measure.precision(values, wanted) == 0.75
    assert measure.precision(values, wanted.flip(0)) == 0.25
    # k3 of log-ratio 0 is 0 everywhere: ties count half
    assert found["auroc_k3"] == 0.5
    assert found["dependency_visual"] == 1.0 and found["dependency_answer"] == 0.0


def test_the_same_image_twice_must_give_nothing(processor, monkeypatch):
    rows = tasks.load(TASK).rows(2)
    model, texts = build_model(processor, 0).eval(), ["<think> one", ""]
    measure.check_control(model, processor, rows, texts)
    none = torch.zeros(2, 3)
    for log_ratio, kl in ((none + 0.5, none), (none, none - 0.5), (none, none + torch.nan)):
        scored = type("Scored", (), {"views": {"same": ViewScores(log_ratio, kl)}})
        monkeypatch.setattr(measure, "score_views", lambda *args, s=scored, **kwargs: s)
        with pytest.raises(RuntimeError, match="must not differ at all, and do by up to"):
            measure.check_control(model, processor, rows, texts)


def measure_scores(kl):
    return ViewScores(torch.zeros_like(kl), kl)


def test_updates_of_equal_norm():
    weights = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    optimizer = EqualNormAdamW(weights, lr=1e-3, norm=0.5)
    for factor in (1.0, 100.0):
        before = [w.detach().clone() for w in weights]
        for w in weights:
            w.grad = factor * torch.arange(1.0, len(w) + 1)
        optimizer.step()
        moved = torch.cat([w.detach() - b for w, b in zip(weights, before, strict=True)])
        assert_close(moved.norm(), torch.tensor(0.5))
        assert (moved < 0).all()  # down the gradient
    optimizer.param_groups[0]["lr"] = 5e-4  # the schedule halves it
    before = [w.detach().clone() for w in weights]
    optimizer.step()
    moved = torch.cat([w.detach() - b for w, b in zip(weights, before, strict=True)])
    assert_close(moved.norm(), torch.tensor(0.25))
