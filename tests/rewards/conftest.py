"""math-verify's workers, which take seconds to be there and are shared by the tests."""

import pytest

from sightline.rewards.verdict import math_verify_workers


@pytest.fixture(autouse=True, scope="session")
def workers():
    """Started before other tests wait for deadlines of their own, and so ready when needed."""
    math_verify_workers(1.0, 2).start()
