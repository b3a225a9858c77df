"""What holds in every test: a fixed seed, one thread, no network."""

import gc
import os

# before anything imports huggingface_hub, which reads them once
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import random
import socket
from functools import cache, cached_property, wraps
from importlib.metadata import Distribution
from types import FunctionType, SimpleNamespace
from typing import get_args

import jaxtyping
import numpy as np
import pytest
from hypothesis import settings

# no torch here: the process that hands the tests out to others would wait for it


def names_shapes(hint):
    """Whether an annotation holds one of jaxtyping's, or text that may."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    parts = hint if isinstance(hint, list) else get_args(hint)  # a list: arguments of a Callable
    return isinstance(hint, str) or any(map(names_shapes, parts))


def check_types(typechecker):
    """What the import hook decorates our code with.

    Where no shape is compared, the type checker alone finds the same in a tenth of the time.
    """

    def decorate(code):
        if isinstance(code, FunctionType) and not any(
            map(names_shapes, code.__annotations__.values())
        ):
            checked = typechecker(code)

            @wraps(code)
            def either(*args, **kwargs):
                return (code if jaxtyping.config.jaxtyping_disable else checked)(*args, **kwargs)

            return either
        return jaxtyped(typechecker=typechecker)(code)

    return decorate


jaxtyped, jaxtyping.jaxtyped = jaxtyping.jaxtyped, check_types

# the same draws on every run and machine; a slow machine is no failure
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Imports without garbage collection, a fifth of their time, and leaves it what was imported.

    Every training collects once, and would go through all of it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_sessionfinish(session):
    """Lets it be collected after all, or libraries report leaks."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seed():
    """Seeds every generator with 0 before each test, and is that seed."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_flush_denormal(False)  # commands, which tests run in their own process, set it
    return 0


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Keeps torch from taking the cores of the other workers."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Refuses sockets, but for those between processes of this machine (T91)."""

    def connect(self, address):
        if self.family != socket.AF_UNIX:
            raise RuntimeError(f"a test may not use the network, tried {address}")
        return connect_locally(self, address)

    def getaddrinfo(host, *args, **kwargs):
        raise RuntimeError(f"a test may not use the network, tried {host}")

    connect_locally = socket.socket.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture(autouse=True, scope="session")
def installed_packages():
    """Reads what a package says of itself once: TRL asks with each trainer and checkpoint."""
    said = cached_property(Distribution.metadata.fget)
    said.__set_name__(Distribution, "metadata")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Distribution, "from_name", staticmethod(cache(Distribution.from_name)))
        patch.setattr(Distribution, "metadata", said)
        yield


@pytest.fixture
def annotations_off():
    """Switches shape annotations off, as they are for users; border checks still hold (T85)."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tiny():
    """A tiny VLM of two layers with random weights, and its processor.

    Who changes it changes it back.
    """
    from sightline import tiny_vlm
    from sightline.tasks import digits

    processor = tiny_vlm.build_processor(digits.corpus())
    model = tiny_vlm.build_model(processor).eval()
    # two layers of each kind take every path that more do, in little more than half the time
    text, vision = model.config.text_config, model.config.vision_config
    del model.model.language_model.layers[2:], model.model.visual.blocks[2:]
    del text.layer_types[2:], vision.fullatt_block_indexes[2:]
    text.num_hidden_layers = vision.depth = 2
    return SimpleNamespace(model=model, processor=processor)
