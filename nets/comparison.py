"""What is compared of each experiment: its variants, and which of them should be equal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gradcheck.contract import Initializer
from nets.initializers import Normal
from nets.presets import PRESETS, Preset, configuration
from nets.run import Run

ENGINES = {"numpy": "NumPy", "torch": "PyTorch"}


@dataclass(frozen=True)
class Variant:
    """One row of a comparison: a preset as one engine trains it.

    It starts from the trained weights of the variant ``start``, or where that is None, from those that its seed draws.
    """

    name: str
    preset: str
    engine: str
    start: str | None = None


def _published(preset: str) -> tuple[Variant, ...]:
    """Return the five models of a published comparison, in its order and by its names."""
    first = Variant("NumPy batch 1", preset, "numpy")
    return (
        first,
        Variant("PyTorch batch 1", preset, "torch"),
        Variant("PyTorch batch 32", f"{preset}:batch-32", "torch"),
        Variant("PyTorch scale 0.1", f"{preset}:scale-0.1", "torch"),
        Variant("PyTorch from NumPy's weights", f"{preset}:batch-32", "torch", start=first.name),
    )


PUBLISHED = {name: _published(name) for name in ("sigmoid-mse", "sigmoid-bce")}

# The other side of an experiment that is no variant of it by its name.
OTHER_SIDES = {"mlp": ("mlp-wide",)}


def variants_of(name: str) -> tuple[Variant, ...]:
    """Return what is compared of the preset ``name``: the published rows, or NumPy and PyTorch of all its variants."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    presets = [name, *(other for other in PRESETS if other.startswith(f"{name}:")), *OTHER_SIDES.get(name, ())]
    return tuple(
        Variant(f"{word} {preset}" if len(presets) > 1 else word, preset, engine)
        for preset in presets
        for engine, word in ENGINES.items()
    )


def pairs_of(variants: Iterable[Variant]) -> tuple[tuple[Variant, Variant], ...]:
    """Return the variants that should be equal: NumPy's and PyTorch's of one preset from one start."""
    numpy = {(one.preset, one.start): one for one in variants if one.engine == "numpy"}
    return tuple(
        (numpy[one.preset, one.start], one)
        for one in variants
        if one.engine == "torch" and (one.preset, one.start) in numpy
    )


def differing(presets: Iterable[Preset]) -> dict[str, list[object]]:
    """Return the fields in which some presets differ, ``lr`` among them, with the values that there are."""
    told = [{**configuration(preset), "lr": preset.schedule.lr} for preset in presets]
    values = {name: list(dict.fromkeys(one[name] for one in told)) for name in told[0]}
    return {name: found for name, found in values.items() if len(found) > 1}


def decided_by_seed(run: Run) -> list[str]:
    """Return what another seed changes of a run, and so what the spread over seeds is a spread of."""
    given, data = run.preset, run.dataset
    drawn = not given.first and len(run.train) < len(data.train)
    tested = drawn if data.test is None else len(run.test) < len(data.test)
    parts = {"training images": drawn, "test images": given.test_of == "test" and tested}
    return ["initial weights", "order of the images", *(name for name, by_seed in parts.items() if by_seed)]


def weight_scale(weights: Initializer | None) -> str:
    """Return the standard deviation of normal initial weights, or else what they are called."""
    if weights is None:
        return "torch's"
    return f"{weights.std:g}" if isinstance(weights, Normal) else type(weights).__name__
