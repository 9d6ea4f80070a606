"""Run a command once for each way in which this processor can be made to round, and print a table of how it ended.

    python -m tests.kernels [--others] [COMMAND ...]

NumPy's OpenBLAS, NumPy's own loops, torch and its MKL each choose among kernels by the processor they find, and sum in
another order with each. Environment variables force the choice, so that one processor can round as another does. The
command is by default pytest on the tests that are marked `rounding`. Ends in 0 if all ended in 0, else in 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

# What of torch's instruction sets a kernel of OpenBLAS needs.
OPENBLAS = {
    "Nehalem": "DEFAULT",
    "Sandybridge": "AVX2",
    "Haswell": "AVX2",
    "Zen": "AVX2",
    "SkylakeX": "AVX512",
}
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")  # of torch, each with those before it

# Each alone, beside the processor's own choice of the rest.
SWITCHES: tuple[dict[str, str], ...] = (
    {"MKL_CBWR": "COMPATIBLE"},  # torch's BLAS, with SSE2 alone and in one order
    {"MKL_CBWR": "AUTO"},  # with its best instructions, in one order
    {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},  # NumPy's own loops, such as float32's exp, from NumPy 2.4 on
    {"OMP_NUM_THREADS": "2"},
    {"OMP_NUM_THREADS": "4"},
)

# By the variable that forces it, what a library is asked: in a process of its own, since it chooses when it is loaded.
BLAS = """
import numpy, threadpoolctl
blas = [pool["architecture"] for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"]
print(blas[0] if blas else "none")
"""
CAPABILITY = "import torch; print(torch.backends.cpu.get_cpu_capability())"
PROBES = {"OPENBLAS_CORETYPE": BLAS, "ATEN_CPU_CAPABILITY": CAPABILITY}

WORKERS = ("-n", "auto", "--dist", "worksteal")
COMMAND = (sys.executable, "-m", "pytest", *WORKERS, "-q", "-m", "rounding and not long", "-p", "no:cacheprovider")


class Kernels(NamedTuple):
    """Variables of the environment, and what they make of NumPy's BLAS and of torch."""

    forced: Mapping[str, str]
    blas: str
    capability: str

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.forced.items()) or "as it is"


def environment(forced: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without its own choices, with one thread, and with what is forced."""
    free = {name for switch in SWITCHES for name in switch} | PROBES.keys()
    own = {name: value for name, value in os.environ.items() if name not in free}
    return own | {"OMP_NUM_THREADS": "1"} | dict(forced)


def probed(forced: Mapping[str, str]) -> Kernels:
    """Return what the libraries choose: each by its own variable, whatever the others are."""
    return Kernels(forced, *(answered(name, forced.get(name)) for name in PROBES))


@cache
def answered(name: str, value: str | None) -> str:
    """Return what a library chooses by the variable that forces its choice."""
    command, forced = [sys.executable, "-c", PROBES[name]], {} if value is None else {name: value}
    done = subprocess.run(command, env=environment(forced), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def marked() -> list[str]:
    """Return the files with a test that is marked `rounding`: to collect all takes long."""
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    return [str(path) for path in files if "pytest.mark.rounding" in path.read_text(encoding="utf-8")]


def available(own: Kernels) -> tuple[str, ...]:
    """Return the capabilities that a processor has whose own choice is given."""
    return CAPABILITIES[: CAPABILITIES.index(own.capability) + 1] if own.capability in CAPABILITIES else ()


def every(own: Kernels) -> Iterator[Kernels]:
    """Yield all that a processor has which by itself chooses ``own``: that first, then each pair, then each switch.

    A pair that comes to the same as one before, as Zen does to Haswell in some builds, is left out.
    """
    yield own
    seen = {own[1:]}
    has = available(own)
    for core, needs in OPENBLAS.items():
        for capability in has if needs in has else ():
            pair = probed({"OPENBLAS_CORETYPE": core, "ATEN_CPU_CAPABILITY": capability.lower()})
            if pair[1:] not in seen:
                yield pair
            seen.add(pair[1:])
    for switch in SWITCHES:
        yield probed(switch)


def others(own: Kernels, kernels: list[Kernels]) -> list[Kernels]:
    """Return two that differ from the processor's own in NumPy's BLAS and in torch, as far from each other as it goes.

    A processor of which only one of the two can be changed has those that differ in one.
    """
    both = [one for one in kernels if one.blas != own.blas and one.capability != own.capability]
    found = both or [one for one in kernels if one[1:] != own[1:]] or kernels[1:]
    return [found[0], found[-1]] if len(found) > 1 else found


def main() -> int:
    """Run the command and print a row as each run ends, then what pytest says has failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--others", action="store_true", help="only two that are not the processor's own")
    parser.add_argument("command", nargs="*", help="what to run, after --; by default the tests marked rounding")
    options = parser.parse_args()
    own = probed({})
    kernels = others(own, list(every(own))) if options.others else list(every(own))
    print(f"this processor: {own.blas} in NumPy, {own.capability} in torch\n")
    missing = [core for core, needs in OPENBLAS.items() if needs not in available(own)]
    if missing:
        print(f"not tried, since this processor has no {OPENBLAS[missing[0]]}: {', '.join(missing)}\n")
    print("| kernels | BLAS of NumPy | torch | result | exit | s |\n|---|---|---|---|---|---|", flush=True)
    failed: list[str] = []
    for one in kernels:
        began = time.perf_counter()
        command = options.command or [*COMMAND, *marked()]
        done = subprocess.run(command, env=environment(one.forced), capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line and not line.startswith("Skipped: ")] or [""]
        seconds = time.perf_counter() - began
        last = lines[-1].strip("= ").partition(" in ")[0]
        print(f"| {one} | {one.blas} | {one.capability} | {last} | {done.returncode} | {seconds:.0f} |", flush=True)
        if done.returncode:
            named = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
            failed += [f"{one}:", *(named or [*lines[-3:], *done.stderr.splitlines()[-3:]])]
    print("\n".join(["", *failed] if failed else []))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
