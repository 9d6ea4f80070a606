"""What the tests of the networks share: the bundled digits."""

from __future__ import annotations

import pytest

from nets.datasets.dataset import Dataset
from nets.datasets.digits import load_digits


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_digits()
