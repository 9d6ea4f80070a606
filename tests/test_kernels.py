"""The two tools that tell what a processor or a machine lacks: the table of kernels, and the line on skipped tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels import Kernels, available, marked, others

ROOT = Path(__file__).parent.parent
OLD, NEW, NEWEST = Kernels({}, "Nehalem", "DEFAULT"), Kernels({}, "Haswell", "AVX2"), Kernels({}, "SkylakeX", "AVX512")
MIXED = Kernels({}, "Nehalem", "AVX2")


def test_a_processor_has_what_older_ones_have() -> None:
    assert available(OLD) == ("DEFAULT",)
    assert available(NEWEST) == ("DEFAULT", "AVX2", "AVX512")
    assert available(Kernels({}, "NEOVERSEN1", "SVE256")) == ()  # nothing here is known of it


@pytest.mark.parametrize(
    ("own", "found"),
    [(NEW, [OLD, NEWEST]), (NEWEST, [OLD, MIXED]), (OLD, [NEW, NEWEST])],
    ids=lambda value: value.blas if isinstance(value, Kernels) else None,
)
def test_the_others_are_not_the_processors_own(own: Kernels, found: list[Kernels]) -> None:
    assert others(own, [own, *(one for one in (OLD, NEW, MIXED, NEWEST) if one != own)]) == found


def test_where_no_blas_can_be_chosen_other_switches_are_tried() -> None:
    own, switched = Kernels({}, "none", "DEFAULT"), Kernels({"OMP_NUM_THREADS": "2"}, "none", "DEFAULT")
    assert others(own, [own, switched]) == [switched]


def test_the_files_with_a_mark_are_found() -> None:
    found = [Path(path).relative_to(ROOT).as_posix() for path in marked()]
    assert {"tests/nets/test_verification.py", "tests/gradcheck/subjects/test_foreign_objects.py"} <= {*found}
    assert "tests/test_readme.py" not in found


@pytest.mark.long  # every kernel is asked what it is, in a process of its own
def test_a_command_that_fails_on_one_kernel_fails_the_table() -> None:
    fails = "import os, sys; sys.exit(os.environ.get('MKL_CBWR') == 'AUTO')"
    command = [sys.executable, "-m", "tests.kernels", "--", sys.executable, "-c", fails]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ") and "| exit" not in line]
    assert {row[0]: row[-2] for row in rows if row[-2] != "0"} == {"| MKL_CBWR=AUTO": "1"}
    assert "MKL_CBWR=AUTO:" in done.stdout


def test_the_last_line_says_what_was_skipped_for_want_of_what() -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MNISTCHECK"))}
    chosen = "tests/nets/test_download.py::test_the_published_digests_are_those_of_real_mnist"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", chosen]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, cwd=ROOT, check=True)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Skipped: 1 for want of real MNIST (mnistcheck data fetch mnist --data-dir D;")
