"""What the tests share: Hypothesis profiles, where MNIST is, and the line on what was skipped."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from gradcheck.strategies import DRAWN_ANEW

settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True, database=None, backend=DRAWN_ANEW)
settings.register_profile("deep", max_examples=50, deadline=None, derandomize=True, database=None)
settings.load_profile(os.environ.get("MNISTCHECK_TEST_PROFILE", "fast"))


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """Return the folder that holds MNIST/raw, or skip."""
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    if not directory or not (Path(directory) / "MNIST" / "raw").is_dir():
        pytest.skip(
            "for want of real MNIST (mnistcheck data fetch mnist --data-dir D; MNISTCHECK_DATA_DIR=D make test)"
        )
    return Path(directory)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all but the first n cases of a test that is marked ``short(n)`` to the long run."""
    taken: Counter[str] = Counter()
    for item in items:
        short = item.get_closest_marker("short")
        if short is not None and item.get_closest_marker("long") is None:
            name = item.nodeid.partition("[")[0]
            taken[name] += 1
            if taken[name] > short.args[0]:
                item.add_marker(pytest.mark.long)


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of every collection of garbage, which takes a sixth of a second with torch."""
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say last, below pytest's own sums, what was skipped for want of what, and how to provide it."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # as in a worker
        return
    skipped = (str(report.longrepr[-1]).removeprefix("Skipped: ") for report in reporter.stats.get("skipped", []))
    if wanting := [f"{count} {reason}" for reason, count in sorted(Counter(skipped).items())]:
        reporter.write_line(f"Skipped: {'; '.join(wanting)}")
