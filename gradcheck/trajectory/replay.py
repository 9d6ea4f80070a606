"""A step that failed, saved in one file and repeated."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.contract import PHASES, Array, Context, Key
from gradcheck.files import write_whole
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR, SHADOWS
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.divergence import Divergence, Moment
from gradcheck.trajectory.engine import Batch, Engine, State, StepError, below, load, observed, step_of, tensors_of
from gradcheck.trajectory.lockstep import LockStep
from gradcheck.trajectory.trace import TraceError, read_about, read_safetensors, to_safetensors

FORMAT, VERSION = "mnistcheck-replay", 1

MOST_SHADOWS = 1000  # that a file may ask for, each of which costs a step


def _integers(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(map(int, values))


def _as_it_is(value: Any) -> Any:  # noqa: ANN401  any JSON
    return value


# How the fields of a divergence are read from a file.
FIELDS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("ours", "theirs", "noise", "allowed", "ratio"), float),
    **dict.fromkeys(("phase", "layer", "tensor", "message"), str),
    "step": int,
    "index": _integers,
    "training": bool,
}


class ReplayError(ValueError):
    """A saved step cannot be read, or belongs to another engine than the one that is to repeat it."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A step that failed, where it failed, and how the engines were made: ``configuration`` is any JSON object."""

    moment: Moment
    divergence: Divergence
    factor: float = FACTOR
    shadows: int = SHADOWS
    configuration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Replayed:
    """The result of a step that was repeated; ``bool(replayed)`` is True only on a pass.

    ``divergence`` is where it fails now, None if it does not. With ``hidden``, the engine does not repeat the step from
    the state that it is given: it carries over more than its state holds. Only the step before was taken again, so
    where it does not fail now, the verdict is inconclusive. ``reference_changed`` names the tensors of the reference
    that are no longer, bit for bit, those saved; None if no reference was given.
    """

    verdict: Verdict
    divergence: Divergence | None
    reference_changed: tuple[str, ...] | None
    hidden: bool = False

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS


def save_replay(path: str | Path, case: Replay) -> None:
    """Write a case to a safetensors file, which appears whole or not at all; raises OSError where it cannot."""
    write_whole(Path(path), encode_replay(case))


def encode_replay(case: Replay) -> bytes:
    """Return the content of the file of a case."""
    moment, context = case.moment, case.moment.context
    arrays = {
        **{f"before/{key}": array for key, array in moment.before.items()},
        **{f"batch/{name}": array for name, array in (("x", moment.batch.x), ("y", moment.batch.y))},
        **{f"ours/{name}": array for name, array in moment.ours.items()},
        **{f"theirs/{name}": array for name, array in moment.theirs.items()},
    }
    earlier = None
    if moment.earlier is not None:
        before, batch, then = moment.earlier
        arrays |= {f"earlier/before/{key}": array for key, array in before.items()}
        arrays |= {"earlier/batch/x": batch.x, "earlier/batch/y": batch.y}
        earlier = {"lr": batch.lr, "key": list(then.key)}
    about = {
        "format": FORMAT,
        "version": VERSION,
        "lr": moment.batch.lr,
        "training": context.training,
        "key": list(context.key),
        "earlier": earlier,
        "order": list(moment.theirs),
        "allowed": moment.allowed,
        "divergence": asdict(case.divergence),
        "factor": case.factor,
        "shadows": case.shadows,
        "configuration": case.configuration,
    }
    return to_safetensors(arrays, {"replay": json.dumps(about)})


def load_replay(path: str | Path) -> Replay:
    """Return the case in a file; raises `ReplayError` for a file that is missing, damaged, or something else."""
    path = Path(path)
    try:
        arrays = read_safetensors(path)
        about = read_about(path, "replay", FORMAT, VERSION, "saved step of mnistcheck train --fair")
    except TraceError as error:
        raise ReplayError(str(error)) from None
    try:
        order = [str(name) for name in about["order"]]
        ours, theirs = ({name: arrays[f"{side}/{name}"] for name in order} for side in ("ours", "theirs"))
        moment = Moment(
            below("before/", arrays),
            Batch(arrays["batch/x"], arrays["batch/y"], float(about["lr"])),
            _context(about["key"], training=bool(about["training"])),
            ours,
            theirs,
            {name: float(about["allowed"][name]) for name in order},
            earlier=_earlier(about.get("earlier"), arrays),
        )
        found = Divergence(**{name: FIELDS.get(name, _as_it_is)(value) for name, value in about["divergence"].items()})
        factor, shadows, configuration = float(about["factor"]), int(about["shadows"]), dict(about["configuration"])
        _require(moment, found, factor, shadows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ReplayError(f"{path} is no saved step that can be taken again: {reason}") from None
    return Replay(moment, found, factor, shadows, configuration)


def _earlier(about: Any, arrays: dict[str, Array]) -> tuple[State, Batch, Context] | None:  # noqa: ANN401  any JSON
    if about is None:
        return None
    batch = Batch(arrays["earlier/batch/x"], arrays["earlier/batch/y"], float(about["lr"]))
    return below("earlier/before/", arrays), batch, _context(about["key"], training=True)


def _context(key: Iterable[Any], *, training: bool) -> Context:
    seed, step, place = key
    return Context(training, Key(int(seed), int(step), str(place)))


def replay(case: Replay, engine: Engine, reference: Engine | None = None, *, seed: int = 0) -> Replayed:
    """Repeat the step of a case with ``engine`` and compare it, as in lock-step, with the saved step of the reference.

    If the step before it was saved, it is taken first, for an engine that remembers more than its state holds. A
    ``reference`` is only checked for giving the saved bits again; the comparison is with the saved step. ``seed`` draws
    the nudges of the shadows. Raises `ReplayError` for an engine of another network.
    """
    moment, changed = case.moment, None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            if moment.earlier is not None:
                load(engine, moment.earlier[0])
                with suppress(StepError):  # only the step itself counts
                    observed(engine, *moment.earlier[1:])
            hidden = _hides(copy.deepcopy(engine), moment)
            load(engine, moment.before)
            lock = LockStep(engine, case.factor, case.shadows, seed, _SavedRounding(case), hidden=hidden)
            lock.compare(moment.before, moment.batch, moment.context, step_of(moment.theirs))
            if unshown := lock.alone["theirs"]:
                raise AdapterError(f"the engine shows no {', '.join(unshown)}, which was compared")
            if reference is not None:
                load(reference, moment.before)
                changed = _changed(moment, reference)
        except (KeyError, ValueError, AdapterError) as error:
            raise ReplayError(f"the saved step is not one of this engine: {error}") from None
    found = lock.result().first_failure
    verdict = Verdict.FAIL if found else Verdict.INCONCLUSIVE if hidden else Verdict.PASS
    return Replayed(verdict, found, changed, hidden)


def _hides(engine: Engine, moment: Moment) -> bool:
    """Return whether an engine takes the step otherwise the second time, from the same state."""
    shown = []
    for _ in range(2):
        load(engine, moment.before)
        try:
            shown.append(tensors_of(observed(engine, moment.batch, moment.context)))
        except StepError:
            return False  # which is told where the step is compared
    return any(not _same_bits(shown[1].get(name), array) for name, array in shown[0].items())


class _SavedRounding:
    """The saved allowances of a case, which include the reference's own rounding, so nothing is measured again."""

    def __init__(self, case: Replay) -> None:
        self.noise = {name: allowed / case.factor for name, allowed in case.moment.allowed.items()}

    def by_opinion(self, names: list[str], *_: object) -> dict[str, float]:
        return {name: self.noise[name] for name in names}

    def by_differences(self, needed: Mapping[str, float], *_: object) -> dict[str, float]:
        return {name: self.noise[name] for name in needed}


def _changed(moment: Moment, reference: Engine) -> tuple[str, ...]:
    """Return the tensors of the reference's step that are no longer, bit for bit, those saved."""
    shown = tensors_of(observed(reference, moment.batch, moment.context))
    return tuple(name for name, array in moment.theirs.items() if not _same_bits(shown.get(name), array))


def _same_bits(a: Array | None, b: Array) -> bool:
    return a is not None and (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


def _require(moment: Moment, found: Divergence, factor: float, shadows: int) -> None:
    if (name := f"{found.phase}/{found.tensor}") not in moment.theirs:
        raise KeyError(name)
    if moment.context.key.step < 0 or not math.isfinite(moment.batch.lr):
        raise ValueError(f"step {moment.context.key.step} and rate {moment.batch.lr} are not those of one")
    if found.phase not in PHASES or not 0 < factor < math.inf or not 1 <= shadows <= MOST_SHADOWS:
        raise ValueError(f"phase {found.phase!r}, factor {factor} and shadows {shadows} are not those of one")
