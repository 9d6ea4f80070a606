"""A hidden state that is not carried from step to step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ONE
from gradcheck.diagnosis.losses import sigmoid
from gradcheck.trajectory.causes.layers import EPS_UNITS, own, sources, unit
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis


def not_carried(scene: Scene) -> StepDiagnosis | None:
    """A hidden state that is zero on one side: given to the model, or from which a recurrent layer begins."""
    ours, theirs = scene.ours, scene.theirs
    if scene.moment.context.key.step == 0 or not scene.comparison.failing.any():
        return None  # both begin somewhere
    if scene.tensor.startswith("input."):
        if ours.any() == theirs.any():
            return None
        return StepDiagnosis(StepCause.NOT_CARRIED, {"reference": bool(ours.any()), "inside": False})
    cell = _cell(scene)
    if cell is None:
        return None
    one = scene.comparison
    for source in sources(scene):
        for first in (0, 1) if source.theirs.ndim == 3 else (0,):  # the axis of time
            made = [_from_zero(cell, scene, np.moveaxis(side, first, 0)) for side in (source.ours, source.theirs)]
            begun = [np.moveaxis(results, 0, first) for results in made if results is not None]
            if len(begun) < 2 or begun[0].shape != one.numeric.shape:
                continue
            unsure = EPS_UNITS * unit(scene) * one.numeric.shape[first] * (1 + np.abs(begun[1]))
            if one.explained_by(begun[0], unsure, ONE):
                return StepDiagnosis(StepCause.NOT_CARRIED, {"reference": False, "inside": True})
            if np.all(np.abs(one.numeric - begun[1]) <= one.allowed + unsure):
                return StepDiagnosis(StepCause.NOT_CARRIED, {"reference": True, "inside": True})
    return None


# One step of a recurrent layer of torch, of what inputs and hidden state are multiplied to, and of what it keeps.
Cell = Callable[[Array, Array, Array, Array], tuple[Array, Array]]


def _rnn(of_x: Array, of_h: Array, h: Array, c: Array) -> tuple[Array, Array]:
    del h
    return np.tanh(of_x + of_h), c


def _gru(of_x: Array, of_h: Array, h: Array, c: Array) -> tuple[Array, Array]:
    (reset, update, new), (also_reset, also_update, also_new) = (np.split(part, 3, axis=-1) for part in (of_x, of_h))
    z = sigmoid(update + also_update)
    return (1 - z) * np.tanh(new + sigmoid(reset + also_reset) * also_new) + z * h, c


def _lstm(of_x: Array, of_h: Array, h: Array, c: Array) -> tuple[Array, Array]:
    del h
    i, f, g, o = np.split(of_x + of_h, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


CELLS: dict[int, Cell] = {1: _rnn, 3: _gru, 4: _lstm}


def _cell(scene: Scene) -> Cell | None:
    """Return a step of the layer whose result is wrong, if it has the parameters of a recurrent one of one layer."""
    weight = own(scene, "weight_hh_l0")
    known = weight is not None and weight.ndim == 2 and own(scene, "weight_hh_l1") is None
    return CELLS.get(len(weight) // weight.shape[1]) if known and weight is not None else None


def _from_zero(cell: Cell, scene: Scene, x: Array) -> Array | None:
    """Return the results ``(time, ...)`` of a recurrent layer that begins from zero, None if x does not fit."""
    (w, u), (b, d) = ([own(scene, f"{kind}_{of}_l0") for of in ("ih", "hh")] for kind in ("weight", "bias"))
    if w is None or u is None or x.shape[-1] != w.shape[1]:
        return None
    h = c = np.zeros((*x.shape[1:-1], u.shape[1]))
    results = []
    for now in x:
        h, c = cell(now @ w.T + (0.0 if b is None else b), h @ u.T + (0.0 if d is None else d), h, c)
        results.append(h)
    return np.stack(results)
