"""Where two programs part, in words."""

from __future__ import annotations

import math
import re

from gradcheck.report.text import Json, element, noise_units
from gradcheck.trajectory.divergence import Divergence


def describe_divergence(found: Divergence, factor: float, ours: str = "ours", theirs: str = "the reference") -> str:
    """Return where two engines part, with both values and what was allowed, and why, if that is known."""
    why = f". {sentence(found.diagnosis, found.tensor)}" if found.diagnosis else ""
    if found.message:
        return f"{place(found)}: {ours} {found.message}{why}"
    values = f"{ours} {found.ours!r}, {theirs} {found.theirs!r}"
    return f"{place(found)}: {values} ({size(found, factor)}){why}"


def divergence_lines(found: Divergence, factor: float, ours: str = "ours", theirs: str = "the reference") -> list[str]:
    """Return what `describe_divergence` does, in lines."""
    lines = [f"They part at {place(found)}:"]
    if found.message:
        lines.append(f"  {ours} {found.message}")
    else:
        width = max(len(ours), len(theirs))
        lines += [
            f"  {ours:{width}}  {found.ours!r}",
            f"  {theirs:{width}}  {found.theirs!r}",
            f"  {size(found, factor)}",
        ]
    return [*lines, *([f"Why: {sentence(found.diagnosis, found.tensor)}."] if found.diagnosis else [])]


def place(found: Divergence) -> str:
    """Return the step, the phase and the element of a divergence."""
    mode = "" if found.training else "in evaluation, "
    where = found.tensor if found.message else element(found.tensor, found.index)
    return f"step {found.step:,}, {mode}{found.phase}, {where}"


def size(found: Divergence, factor: float) -> str:
    """Return how far apart the two values are, and how far they may be."""
    if math.isinf(found.ratio):
        return "they must be equal" if found.allowed == 0 else "one is not finite"
    difference = abs(found.ours - found.theirs)
    relative = f", relative {difference / abs(found.theirs):.2g}" if found.theirs else ""
    noise = f"{noise_units(found.ratio, factor)} x rounding noise, {factor:g} allowed"
    return f"difference {difference:.3g}{relative}: {noise}"


def sentence(text: str, tensor: str) -> str:
    """Return a text with a capital letter, unless it begins with the name of a tensor, which is left as it is."""
    first = re.match(r"[^\s:']*", text)
    word = first.group() if first else ""
    named = not word.isalpha() or re.search(rf"(?<!\w){re.escape(word)}(?!\w)", tensor)
    return text if named else f"{text[:1].upper()}{text[1:]}"


def describe_crossing(step: int, crossing: Json) -> str:
    """Return where one side alone crossed a kink, and whether rounding explains it; from `crossing_to_json`."""
    sample, unit = (crossing["index"] or [0])[0], crossing["index"][1:]
    where = element(f"step {step:,}, layer {crossing['layer']}, sample {sample}, unit ", unit)
    others = f", the widest of {crossing['units']}" if (crossing["units"] or 1) > 1 else ""
    told = "which explains it" if crossing["explained"] else "which does not explain it"
    units = crossing["gap"] / crossing["noise"] if crossing["noise"] else math.inf
    return f"{where}{others}: {crossing['gap']:.1e} apart, {units:.1f} x what rounding moves its layer by, {told}"
