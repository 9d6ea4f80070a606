"""What the tests share: Hypothesis profiles, and where MNIST is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from gradcheck.strategies import DRAWN_ANEW

settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True, database=None, backend=DRAWN_ANEW)
settings.register_profile("deep", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("MNISTCHECK_TEST_PROFILE", "fast"))


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """Return the folder that holds MNIST/raw, or skip."""
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    if not directory or not (Path(directory) / "MNIST" / "raw").is_dir():
        pytest.skip("real MNIST is not here: set MNISTCHECK_DATA_DIR to the folder that holds MNIST/raw")
    return Path(directory)
