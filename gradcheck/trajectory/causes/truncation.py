"""Gradients that reach back through a state handed on from one call of a recurrent layer to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import TWO
from gradcheck.trajectory.causes.gradients import gradients_of
from gradcheck.trajectory.causes.layers import EPS_UNITS
from gradcheck.trajectory.causes.recurrence import CELLS, Cell
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis

# The last state of a recurrent layer, or of an LSTM its two parts: the name of the layer, the part, the call.
STATE = re.compile(r"backward/(.+)\.output\.1(\.[01])?(@\d+)?")

STEP = 1e-30  # of a derivative in the complex plane, from which nothing is subtracted


class Layer(NamedTuple):
    """A recurrent layer of torch with one layer, as a cell and its parameters ``w u b d``, zeros for no bias."""

    cell: Cell
    w: Array
    u: Array
    b: Array
    d: Array

    def states(self, x: Array, h: Array, c: Array) -> list[tuple[Array, Array]]:
        """Return the states from the first one on, for inputs ``(time, batch, in)``."""
        found = [(h, c)]
        for now in x:
            h, c = self.cell(now @ self.w.T + self.b, h @ self.u.T + self.d, h, c)
            found.append((h, c))
        return found

    def pulled_back(self, x: Array, states: list[tuple[Array, Array]], gh: Array, gc: Array) -> dict[str, Array]:
        """Return the parameters' gradients of those of the last state, each with the sum of its magnitudes."""
        terms: dict[str, list[tuple[Array, Array]]] = {"ih": [], "hh": []}
        for now, (h, c) in zip(reversed(x), reversed(states[:-1]), strict=True):
            given = (now @ self.w.T + self.b, h @ self.u.T + self.d, h, c)
            by_x, by_h, direct, carried = (self._slopes(given, place, gh, gc) for place in range(4))
            terms["ih"].append((by_x, now))
            terms["hh"].append((by_h, h))
            gh, gc = by_h @ self.u + direct, carried
        found: dict[str, Array] = {}
        for of, parts in terms.items():
            for size in (False, True):
                pairs = [(np.abs(g), np.abs(of)) if size else (g, of) for g, of in parts]
                suffix = " size" if size else ""
                found[f"weight_{of}_l0{suffix}"] = np.sum([g.T @ of for g, of in pairs], axis=0)
                found[f"bias_{of}_l0{suffix}"] = np.sum([g.sum(axis=0) for g, _ in pairs], axis=0)
        return found

    def _slopes(self, given: tuple[Array, ...], place: int, gh: Array, gc: Array) -> Array:
        """Return the gradient of one argument of the cell, in which each unit depends on its own numbers alone."""
        width = gh.shape[-1]
        parts = []
        for start in range(0, given[place].shape[-1], width):
            moved = [np.asarray(one, dtype=complex) for one in given]
            moved[place][..., start : start + width] += 1j * STEP
            h, c = self.cell(*moved)
            parts.append((gh * h.imag + gc * c.imag) / STEP)
        return np.concatenate(parts, axis=-1)


def cut_off(scene: Scene) -> StepDiagnosis | None:
    """The gradients of a recurrent layer without what reaches them through the states that it hands on."""
    for reference, own in enumerate(scene.moment.own or ()):
        found = [match for name in own.alone if (match := STATE.fullmatch(name))]
        for module in dict.fromkeys(match[1] for match in found):
            calls = dict.fromkeys(match[3] or "" for match in found if match[1] == module)
            through = _through(scene, module, calls, own.alone)
            if through is not None and _is_all(scene, module, through, 1 if reference else -1):
                return StepDiagnosis(StepCause.CUT_OFF, {"layer": module, "reference": not reference})
    return None


def _is_all(scene: Scene, module: str, through: Mapping[str, Array], sign: int) -> bool:
    """Return whether all gradients of a layer's parameters lack, or have, just what reaches back through its states."""
    names = gradients_of(scene, clipped=False)
    shown = {param: names[own] for param in through if (own := f"{module}.{param}") in names}
    unit = float(np.finfo(scene.theirs.dtype).eps)
    parts = {param: scene.compared(name) for param, name in shown.items()}
    return any(one.failing.any() for one in parts.values()) and all(
        one.explained_by(one.numeric - sign * through[param], EPS_UNITS * unit * through[f"{param} size"], TWO)
        for param, one in parts.items()
        if one.failing.any()
    )


def _through(
    scene: Scene, module: str, calls: Mapping[str, None], alone: Mapping[str, Array]
) -> dict[str, Array] | None:
    """Return what reaches the parameters of a layer through its last states in some calls, None if it is not known."""
    layer = _layer(scene, module)
    total: dict[str, Array] = {}
    for call in calls if layer is not None else ():
        results = scene.moment.theirs.get(f"forward/{module}.output{call}")
        grads = _state(alone, f"backward/{module}.output.1", call)
        if layer is None or results is None or results.ndim != 3 or grads is None:
            return None
        begun = next(_begun(scene, layer, results, grads), None)
        if begun is None:
            return None
        for name, array in layer.pulled_back(*begun, *grads).items():
            total[name] = total.get(name, 0.0) + array
    return total or None


def _layer(scene: Scene, module: str) -> Layer | None:
    weights = [scene.moment.before.get(f"param/{module}.weight_{of}_l0") for of in ("ih", "hh")]
    if any(weight is None for weight in weights) or f"param/{module}.weight_hh_l1" in scene.moment.before:
        return None
    w, u = (np.asarray(weight, dtype=np.float64) for weight in weights)
    b, d = (scene.moment.before.get(f"param/{module}.bias_{of}_l0", np.zeros(len(w))) for of in ("ih", "hh"))
    cell = CELLS.get(len(u) // u.shape[1])
    return None if cell is None else Layer(cell, w, u, b.astype(np.float64), d.astype(np.float64))


def _state(arrays: Mapping[str, Array], name: str, call: str) -> tuple[Array, Array] | None:
    """Return both parts of a state ``(1, batch, units)``, without the first axis, or of its gradient."""
    known = [arrays.get(f"{name}{part}{call}") for part in ("", ".0", ".1")]
    shape = next((one.shape[1:] for one in known if one is not None and one.ndim == 3 and len(one) == 1), None)
    if shape is None or any(one is not None and one.shape != (1, *shape) for one in known):
        return None
    h, c = (np.zeros(shape) if one is None else one[0].astype(np.float64) for one in (known[0], known[2]))
    return (h if known[1] is None else known[1][0].astype(np.float64)), c


def _begun(
    scene: Scene, layer: Layer, results: Array, like: tuple[Array, Array]
) -> Iterator[tuple[Array, list[tuple[Array, Array]]]]:
    """Yield inputs ``(time, batch, in)`` and the states that they lead to, where these are the ``results`` shown.

    The inputs may be a part of what is shown.
    """
    shown = {name: array for name, array in scene.moment.theirs.items() if name.startswith(("data/", "forward/"))}
    starts = _starts(shown, like)
    allowed = EPS_UNITS * float(np.finfo(scene.theirs.dtype).eps) * like[0].shape[-1]
    for array in shown.values():
        if array.ndim != 3 or array.dtype.kind != "f" or array.shape[-1] != layer.w.shape[1]:
            continue
        for time in (0, 1):
            whole, wanted = (np.moveaxis(one.astype(np.float64), time, 0) for one in (array, results))
            if whole.shape[1] != wanted.shape[1] or wanted.shape[1:] != like[0].shape:
                continue
            parts = [whole[begin : begin + len(wanted)] for begin in range(len(whole) - len(wanted) + 1)]
            for x, start in product(parts, starts):
                first = layer.states(x[:1], *start)[1][0]
                if np.all(np.abs(first - wanted[0]) <= allowed):
                    states = layer.states(x, *start)
                    if np.all(np.abs(states[-1][0] - wanted[-1]) <= allowed * len(x)):
                        yield x, states


def _starts(shown: Mapping[str, Array], like: tuple[Array, Array]) -> list[tuple[Array, Array]]:
    """Return the states from which a layer may have begun: zero, and all that are shown."""
    found = [(np.zeros_like(like[0]), np.zeros_like(like[1]))]
    for name in dict.fromkeys(re.sub(r"\.[01](?=@|$)", "", name) for name in shown):
        base, _, call = name.partition("@")
        state = _state(shown, base, f"@{call}" if call else "")
        if state is not None and state[0].shape == like[0].shape:
            found.append(state)
    return found
