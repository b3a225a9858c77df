"""The frozen benchmarks as lmms-eval's own loader takes them: `make test-lmms-eval`."""

import shutil
from dataclasses import replace

import pytest
import yaml
from test_benchmarks import ANSWERS, look_alike

from sightline.evaluate.protocol import FOLDER, known_benchmarks, load_protocol
from sightline.rewards import THINK_BOXED

lmms_tasks = pytest.importorskip("lmms_eval.tasks", reason="make test-lmms-eval")
TASKS = FOLDER.parent / "lmms_eval"


@pytest.fixture
def copies(tmp_path):
    """Our task files, whose data sets are look-alikes of three rows in this folder."""
    shutil.copytree(TASKS, tmp_path / "tasks")
    for name in known_benchmarks():
        protocol = load_protocol(name)
        root = look_alike(tmp_path / name, protocol.source)
        own = replace(protocol, source=replace(protocol.source, dataset=str(root)), rows=3)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(own.about()))
        file = tmp_path / "tasks" / f"sightline_{name}.yaml"
        text = file.read_text()
        for before, after in {
            f"hf://datasets/{protocol.source.dataset}": str(root),
            f"benchmark: {name}": f"benchmark: {tmp_path / name}.yaml",
        }.items():
            assert text.count(before) == 1
            text = text.replace(before, after)
        file.write_text(text)
    return str(tmp_path / "tasks")


def test_every_task_is_found_beside_those_of_lmms_eval():
    manager = lmms_tasks.TaskManager(include_path=str(TASKS))
    ours = {f"sightline_{name}" for name in known_benchmarks()}
    assert ours <= set(manager.all_subtasks) and "mme" in manager.all_tasks


@pytest.mark.parametrize("kind", ["simple", "chat"])
def test_every_task_is_loaded_asked_and_judged(copies, kind):
    manager = lmms_tasks.TaskManager(include_path=copies, include_defaults=False)
    names = [f"sightline_{name}" for name in known_benchmarks()]
    assert sorted(manager.all_tasks) == names
    tasks = manager.load_task_or_group(names, task_type=kind)
    assert sorted(tasks) == names
    for name, task in tasks.items():
        protocol = load_protocol(name.removeprefix("sightline_"))
        assert task.config.repeats == protocol.decoding.n
        assert (task.config.dataset_name, task.config.test_split) == (None, "test")
        docs = list(task.test_docs())
        assert [task.doc_to_target(doc) for doc in docs] == ANSWERS
        assert task.doc_to_text(docs[1]) == f"What is x_1?\n\n{THINK_BOXED}"
        (picture,) = task.doc_to_visual(docs[1])
        assert picture.size == (40, 31) and picture.getpixel((5, 5)) == (80, 0, 0)
        task.build_all_requests(limit=3, rank=0, world_size=1)
        settings = [request.args[1] for request in task.instances]
        if kind == "chat":  # words come as messages, and settings behind them
            settings = [request.args[2] for request in task.instances]
        assert len(task.instances) == 3
        for told in settings:
            assert (told["temperature"], told["top_p"]) == (1.0, 1.0)
            assert (told["max_new_tokens"], told["do_sample"]) == (2048, True)
        right = ["\\boxed{7/2}", "\\boxed{B}", "\\boxed{\\frac{2}{\\sqrt{2}}}"]
        judged = [task.process_results(doc, [text]) for doc, text in zip(docs, right, strict=True)]
        assert judged == [{"accuracy": 1.0, "not_judged": 0.0}] * 3
        wrong = task.process_results(docs[0], ["\\boxed{B}"])
        assert wrong == {"accuracy": 0.0, "not_judged": 0.0}
        assert set(task.aggregation()) == {"accuracy", "not_judged"}
