"""Who may import whom, and that the rules of the house are really in force."""

import ast
import socket
import sys
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

import sightline
from sightline import views
from sightline.core import advantages, divergence, losses, masked

SOURCE = Path(sightline.__file__).parent
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))

LIGHT = {"torch", "numpy", "jaxtyping"}
FRAMEWORKS = {"trl", "verl"}
# what each layer may import beside the standard library and itself
LAYERS = {
    "core": {"torch", "jaxtyping"},
    "views": LIGHT,
    "algorithms": {"torch", "jaxtyping", "sightline.core", "sightline.views"},
}
BELOW_ENGINES = {"core", "views", "algorithms", "scoring", "evaluate", "report", "data", "tasks"}
BELOW_ENGINES |= {"rewards", "tiny_vlm", "encoding", "records", "warm_start"}
BELOW_ENGINES |= {"families", "view_inputs", "draws", "checkpoints", "prompts"}
BELOW_ENGINES |= {"model_shape", "estimate", "score", "models", "other_images", "right_and_wrong"}


def layer(module):
    """The package or module directly below ``sightline`` that a file belongs to."""
    return module.parts[0].removesuffix(".py")


def imports(module):
    """What a file imports anywhere: ``torch``, ``sightline.core``, ..."""
    package = ("sightline", *module.parts[:-1])
    found = set()
    for node in ast.walk(ast.parse((SOURCE / module).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            name = ".".join(filter(None, [base, node.module]))
            names = (
                [f"{name}.{alias.name}" for alias in node.names] if name == "sightline" else [name]
            )
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            found.add(f"{top}.{rest[0]}" if top == "sightline" and rest else top)
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_layers_import_only_what_lies_below(name):
    allowed = LAYERS[name] | set(sys.stdlib_module_names) | {f"sightline.{name}"}
    modules = [module for module in MODULES if layer(module) == name]
    assert modules
    for module in modules:
        assert imports(module) <= allowed, module


def test_only_engines_import_a_framework():
    for module in MODULES:
        # the commands configure TRL's trainer, and hand their flags to its parser
        if layer(module) not in {"engines", "compare", "demo", "train", "run_arguments", "dry_run"}:
            assert not imports(module) & FRAMEWORKS, module
        if layer(module) in BELOW_ENGINES:
            assert "sightline.engines" not in imports(module), module


def test_public_names_are_those_of_core_algorithms_and_views():
    assert len(set(sightline.__all__)) == len(sightline.__all__)
    shown = {n for n, v in vars(views).items() if isinstance(v, type) and issubclass(v, views.View)}
    names = set(sightline.core.__all__) | set(sightline.algorithms.__all__) | shown
    assert set(sightline.__all__) == names
    assert all(hasattr(sightline, name) for name in names)


def test_no_module_hides_its_shapes_from_the_checker():  # T86
    for module in MODULES:
        assert "__future__" not in imports(module), module


SQUARE, ROW = torch.zeros(3, 3), torch.zeros(3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: masked.response_mean(ROW, SQUARE.bool()),
        lambda: divergence.exact_kl(SQUARE, SQUARE[:2], SQUARE),
        lambda: advantages.group_advantages(SQUARE, 3),
        lambda: losses.clipped_surrogate(SQUARE, SQUARE, ROW),
        lambda: sightline.ViewScores(ROW),
        lambda: sightline.token_advantages(sightline.Algorithm(), SQUARE, {}, SQUARE.bool()),
        lambda: sightline.Algorithm().token_weights({}, ROW.bool()),
        lambda: sightline.PGPO().token_weights({}, ROW.bool()),
    ],
)
def test_a_wrong_shape_is_refused_by_its_annotation(call):  # T86
    with pytest.raises(TypeCheckError):
        call()


def test_a_wrong_type_is_refused_where_no_shape_is_named():
    with pytest.raises(BeartypeCallHintViolation, match="length='3'"):
        masked.share(0.5, "3")


def test_the_network_is_refused():  # T91
    with pytest.raises(RuntimeError, match="may not use the network"):
        socket.create_connection(("huggingface.co", 443))
    with socket.socket() as plain, pytest.raises(RuntimeError, match="may not use the network"):
        plain.connect(("127.0.0.1", 9))
