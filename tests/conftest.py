"""What holds in every test: a fixed seed, one thread, no network."""

import gc
import os

# before anything imports huggingface_hub, which reads them once
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import random
import socket
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# the same draws on every run and machine; a slow machine is no failure
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    """Imports without garbage collection: a fifth of their time goes there, and none is found."""
    gc.disable()


def pytest_collection_finish(session):
    """Leaves what was imported out of garbage collection, of which every training does one."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session):
    """Lets it be collected after all, or libraries report leaks."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seed():
    """Seeds every generator with 0 before each test, and is that seed."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_flush_denormal(False)  # commands, which tests run in their own process, set it
    return 0


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


@pytest.fixture
def annotations_off():
    """Switches shape annotations off, as they are for users; border checks still hold (T85)."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tiny():
    """The tiny VLM with random weights, and its processor; who changes it changes it back."""
    from sightline import tiny_vlm
    from sightline.tasks import digits

    processor = tiny_vlm.build_processor(digits.corpus())
    return SimpleNamespace(model=tiny_vlm.build_model(processor).eval(), processor=processor)
