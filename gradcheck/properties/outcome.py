"""The outcome of a property for one case, and the settings of a check."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.diagnosis.evidence import Diagnosis
from gradcheck.numerics.agreement import Verdict, Worst, largest

DTYPES = ("float64", "float32")
Mode = Literal["auto", "full", "fast"]
MODES: tuple[Mode, ...] = ("auto", "full", "fast")
SECONDS: dict[Mode, float] = {"auto": 5.0, "fast": 2.0, "full": math.inf}  # of processor time, for one object

# An allowance above this share of the tensor's largest element cannot tell right from wrong. In float32, where a good
# one is 1e-5 and one of a value near which much cancels 1e-2, it can tell whether a term is missing or a sign is wrong.
USEFUL = {np.float64: 1e-3, np.float32: 5e-2}

GRACE = 0.5  # of its time, that a check may take longer to explain a failure by an eps or a cause

CERTAIN = 100.0  # a ratio, below which no cause is sought
DIAGNOSED = 4096  # elements of a tensor whose disagreement is explained: it takes differences for other cotangents


@dataclass(frozen=True)
class Settings:
    """How thorough a check is.

    ``mode`` is ``full`` (every element of every tensor is perturbed), ``fast`` (random directions) or ``auto`` (full
    where that is cheap). ``max_evaluations`` bounds the forward calls that perturb a case's single elements. ``dtypes``
    are the precisions in which values and gradients are compared with those of a twin. ``steps`` is the number of steps
    of an optimizer, or of epochs of a schedule. ``explain`` is whether the causes of wrong gradients are sought. In a
    ``derived`` case, made from the one given, auto mode perturbs single elements only where random directions leave
    something open.
    """

    mode: Mode = "auto"
    max_evaluations: int | None = None
    dtypes: tuple[str, ...] = DTYPES
    steps: int = 20
    explain: bool = True
    derived: bool = False
    seconds: float | None = None
    until: float = math.inf

    @property
    def limit(self) -> float:
        """Return the processor time, in seconds, of a check of one object.

        What was asked for, or what its mode takes.
        """
        return SECONDS[self.mode] if self.seconds is None else self.seconds

    def late(self) -> bool:
        """Return whether even what explains a failure is to take no more time."""
        return time.thread_time() > self.until + GRACE * self.limit

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, got {self.mode!r}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds is above 0, got {self.seconds}")
        if self.max_evaluations is not None and self.max_evaluations < 1:
            raise ValueError(f"max_evaluations is at least 1, got {self.max_evaluations}")
        if not self.dtypes or not set(self.dtypes) <= set(DTYPES):
            raise ValueError(f"dtypes are among {', '.join(DTYPES)}, got {', '.join(self.dtypes) or 'none'}")


class Budget:
    """The processor time of a check: of this thread, so that a busy machine changes nothing of what is tried."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.until = seconds, time.thread_time() + seconds

    def spent(self, share: float = 1.0) -> bool:
        """Return whether the time, or a share of it, is over."""
        return time.thread_time() > self.until - (1 - share) * self.seconds


@dataclass(frozen=True)
class Outcome:
    """The result of one property for one case.

    ``message`` is a sentence about the failure, or about why nothing could be told; ``diagnosis`` one about its cause;
    ``remark`` one that qualifies a pass, and ``trait`` one about the subject that is said once of all cases.
    ``causes`` holds what is thought of each tensor whose gradient is wrong.
    """

    verdict: Verdict
    worst: Worst | None = None
    message: str = ""
    diagnosis: str = ""
    remark: str = ""
    trait: str = ""
    causes: dict[str, Diagnosis | None] = field(default_factory=dict)


# None: the case lacks what the claim is about, such as buffers.
Property = Callable[[Case, Settings], Outcome | None]


def failure(message: str, worst: Worst | None = None, diagnosis: str = "") -> Outcome:
    """Return a failure with its reason, and its cause if it is known."""
    return Outcome(Verdict.FAIL, worst, message, diagnosis)


def counted(wrong: Mapping[str, tuple[int, int] | None], right: Sequence[str]) -> str:
    """Say which tensors are wrong, in how many of how many elements where that is known, and which are right."""
    if not right and len(wrong) == 1 and next(iter(wrong.values()), None) in (None, (1, 1)):
        return ""  # which goes without saying
    said = []
    for name, count in wrong.items():
        if count is None or count[1] == 1:
            said.append(f"{name} is wrong")
        else:
            some = f"all {count[1]:,}" if count[0] == count[1] else f"{count[0]:,} of {count[1]:,}"
            said.append(f"{name}: {some} elements wrong")
    return "; ".join(said) + (f"; right: {', '.join(right)}" if right else "")


def inconclusive(message: str) -> Outcome:
    """Return an inconclusive outcome with its reason."""
    return Outcome(Verdict.INCONCLUSIVE, None, message)


def judged(worsts: Iterable[Worst | None], *, told: bool = True) -> Outcome:
    """Return FAIL if the worst disagreement exceeds its allowance, else PASS if ``told``, else INCONCLUSIVE."""
    worst = largest(*worsts)
    if worst is not None and worst.ratio > 1:
        return Outcome(Verdict.FAIL, worst)
    if worst is None:
        return inconclusive("nothing was compared")
    if not told:
        reason = f"the numbers are too noisy: {worst.allowed:.1e} is allowed for a value of {worst.numeric:.1e}"
        zero = worst.analytic == worst.numeric == 0
        return Outcome(Verdict.INCONCLUSIVE, worst, "everything that was compared is zero" if zero else reason)
    return Outcome(Verdict.PASS, worst)


def cotangent(y: Array, rng: np.random.Generator) -> Array:
    """Return a Gaussian cotangent for an output; never all ones, under which a softmax has no gradient.

    It has the digits of float32, so that it is the same in either precision: a twin may round it so.
    """
    return np.asarray(rng.standard_normal(y.shape)).astype(np.float32).astype(y.dtype)


def useful(allowed: Array | float, *values: Array, share: float = USEFUL[np.float64]) -> bool:
    """Return whether an allowance can tell right from wrong beside the largest element that it is about."""
    top = max(float(np.abs(array).max(initial=0.0)) for array in values)
    return bool(np.any(np.asarray(allowed) < share * top))
