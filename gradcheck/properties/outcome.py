"""What a property finds in one case, and how much it may spend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Case
from gradcheck.diagnosis.evidence import Diagnosis
from gradcheck.numerics.agreement import Verdict, Worst, largest
from gradcheck.numerics.functions import Arrays, Function, shadow
from gradcheck.numerics.rounding import Recorder, noise_of

DTYPES = ("float64", "float32")
Mode = Literal["auto", "full", "fast"]
MODES: tuple[Mode, ...] = ("auto", "full", "fast")

# Shadows of a check of small arrays. With few elements and cancelling terms all nudges of a shadow may cancel (with
# probability up to 3/8 for two terms); 16 of them do so less than once in a million times.
SHADOWS = 16

# Of large ones each element matters less, and each shadow costs more.
LARGE, SHADOWS_OF_LARGE = 1 << 17, 5

# Allowance over what the widest of these shadows shows. It is seldom small by chance, as that of three is, for which
# trajectories need a factor of 8; but a foreign object shows its rounding less surely, without taps.
NATIVE_FACTOR, FOREIGN_FACTOR = 4.0, 8.0

# An allowance above this share of the tensor's largest element cannot tell right from wrong.
USEFUL = 1e-3

CERTAIN = 100.0  # a ratio, below which no cause is sought
DIAGNOSED = 4096  # elements of a tensor whose disagreement is explained: it takes differences for other cotangents

DIFFERENCED = 9  # evaluations at equal distances: five fourth differences


@dataclass(frozen=True)
class Settings:
    """How thorough a check is.

    ``mode`` is ``full`` (every element of every tensor is perturbed), ``fast`` (random directions) or ``auto`` (full
    where that is cheap). ``max_evaluations`` bounds the forward calls by which a case's single elements are perturbed.
    ``dtypes`` are the precisions in which values and gradients are compared with those of a twin. ``steps`` are those
    of an optimizer, or the epochs of a schedule. ``explain`` is whether the causes of wrong gradients are sought.
    """

    mode: Mode = "auto"
    max_evaluations: int | None = None
    dtypes: tuple[str, ...] = DTYPES
    steps: int = 20
    explain: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, got {self.mode!r}")
        if self.max_evaluations is not None and self.max_evaluations < 1:
            raise ValueError(f"max_evaluations is at least 1, got {self.max_evaluations}")
        if not self.dtypes or not set(self.dtypes) <= set(DTYPES):
            raise ValueError(f"dtypes are among {', '.join(DTYPES)}, got {', '.join(self.dtypes) or 'none'}")


@dataclass(frozen=True)
class Outcome:
    """What one property found in one case.

    ``message`` is a sentence about the failure, or about why nothing could be told; ``diagnosis`` one about its cause;
    ``remark`` one that qualifies a pass. ``causes`` holds what is thought of each tensor whose gradient is wrong.
    """

    verdict: Verdict
    worst: Worst | None = None
    message: str = ""
    diagnosis: str = ""
    remark: str = ""
    causes: dict[str, Diagnosis | None] = field(default_factory=dict)


# None: the claim is about something that the case has not, such as buffers.
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
    """Return that nothing could be told, and why."""
    return Outcome(Verdict.INCONCLUSIVE, None, message)


def judged(worsts: Iterable[Worst | None], *, told: bool = True) -> Outcome:
    """Return FAIL if the worst disagreement exceeds its allowance, PASS if not and something could be told."""
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


def factor_of(function: Function) -> float:
    """Return by how many times what shadows show a result may be off."""
    return FOREIGN_FACTOR if function.foreign else NATIVE_FACTOR


def allowance(function: Function, reference: Array, spread_of_shadows: float) -> float:
    """Return by how much rounding may set a tensor and its reference apart, given how far shadows spread."""
    return factor_of(function) * noise_of(reference, spread_of_shadows, factor_of(function))


def cotangent(y: Array, rng: np.random.Generator) -> Array:
    """Return a Gaussian cotangent for an output; never all ones, under which a softmax has no gradient."""
    return np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)


def shadows_of(
    case: Case,
    function: Function,
    variables: Arrays,
    dy: Array,
    rng: np.random.Generator,
    precision: DTypeLike | None = None,
) -> list[dict[str, Array]]:
    """Return shadows of a call, and for a foreign one, which has no taps, what else shows its rounding.

    Nudges are of one unit in the last place of ``precision``, by default that of the arrays.
    """
    count = SHADOWS_OF_LARGE if sum(array.size for array in variables.values()) > LARGE else SHADOWS
    shadows = [
        shadow(function, variables, dy, rng, case.context(Recorder(rng, precision)), precision) for _ in range(count)
    ]
    if not function.foreign:
        return shadows

    def compute(given: Arrays) -> dict[str, Array]:
        y, pullback = function.call(given, case.context())
        return {"output": y, **pullback(dy)}

    return shadows + roughness(compute, variables, rng)


def roughness(
    compute: Callable[[Arrays], dict[str, Array]], variables: Arrays, rng: np.random.Generator
) -> list[dict[str, Array]]:
    """Return what ``compute`` returns, moved by samples of its rounding, as fourth differences show it.

    At equal distances, too short for anything smooth to show in a fourth difference, what shows there is rounding: with
    standard deviation s in each of the values, sqrt(70) s. Shadows miss what arises inside: (1e6 + sin x) - 1e6 steps
    by 1e-10, and hardly ever does so when x is nudged; nor does a nudge of one term change how a long sum rounds.
    More and Wild (2011), "Estimating computational noise".
    """
    base, steps = compute(variables), []
    directions = {name: rng.uniform(0.5, 1.0, x.shape) for name, x in variables.items()}
    for k in range(1, DIFFERENCED + 1):
        moved = {}
        for name, x in variables.items():
            distance = x.dtype.type(k * np.sqrt(np.finfo(x.dtype).eps) / 16 * np.abs(x).max(initial=0.0))
            moved[name] = x + distance * directions[name].astype(x.dtype)
        steps.append(compute(moved))
    samples = []
    for start in range(DIFFERENCED - 4):
        a, b, c, d, e = steps[start : start + 5]
        fourth = {k: (a[k] - 4 * b[k] + 6 * c[k] - 4 * d[k] + e[k]) / np.sqrt(70) for k in base}
        samples.append({k: base[k] + array.astype(base[k].dtype) for k, array in fourth.items()})
    return samples


def useful(allowed: Array | float, *values: Array) -> bool:
    """Return whether an allowance can tell right from wrong beside the largest element that it is about."""
    top = max(float(np.abs(array).max(initial=0.0)) for array in values)
    return bool(np.any(np.asarray(allowed) < USEFUL * top))
