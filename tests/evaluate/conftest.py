"""A model that answers in the task's form, and a folder of its own for what is unpacked."""

from types import SimpleNamespace

import pytest

from sightline.tasks import digits
from sightline.warm_start import load_warm_model


@pytest.fixture(scope="session")
def warm():
    model, processor = load_warm_model(digits, seed=0)
    return SimpleNamespace(model=model, processor=processor)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path_factory.mktemp("cache")))
