"""A preset's run with a faulty layer in its network: trained, and held against its torch twin."""

from __future__ import annotations

from dataclasses import dataclass, fields

from gradcheck.contract import Array, Layer
from gradcheck.report.json import trajectory_to_json
from gradcheck.report.runs import summarise_trajectory
from gradcheck.trajectory.check import Evaluation, TrajectoryReport, check_trajectory
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import one_thread_each
from nets.layers import Sequential
from nets.run import Run
from nets.training import EVALUATED, Outcome, Side, Training

NAMES = {"numpy": "NumPy", "torch": "PyTorch"}


@dataclass(frozen=True, eq=False)
class Learned:
    """A network as it was trained, what that came to, and the training loss of the last epoch."""

    model: Sequential
    outcome: Outcome
    loss: float


def planted(model: Layer, faulty: type[Layer]) -> Sequential:
    """Return a chain with a faulty layer, of the same arrays, in place of each that it is a variant of."""
    return Sequential(
        tuple(
            faulty(**{spec.name: getattr(layer, spec.name) for spec in fields(layer)})
            if type(layer) in faulty.__bases__
            else layer
            for layer in chain(model).layers
        )
    )


def chain(model: Layer) -> Sequential:
    """Return a preset's network as what it is."""
    if not isinstance(model, Sequential):
        raise TypeError(f"needs a Sequential, got a {type(model).__name__}")
    return model


def before(model: Layer, layer: int, x: Array) -> Array:
    """Return what a layer of a chain is given."""
    return Sequential(chain(model).layers[:layer]).forward(x)[0]


def engine(run: Run, faulty: type[Layer] | None = None) -> NumpyEngine:
    """Return the NumPy engine of a run before its first step, with the faulty layer if there is one."""
    model = run.model() if faulty is None else planted(run.model(), faulty)
    return NumpyEngine(model, run.preset.loss, run.preset.new_optimizer())


def trained(run: Run, faulty: type[Layer] | None = None) -> Learned:
    """Train the NumPy side alone, with the faulty layer if there is one."""
    training, own = Training(run, ("numpy",)), engine(run, faulty)
    training.sides["numpy"] = Side(run, own)
    for _ in training.steps():
        pass
    done = training.finish()
    return Learned(chain(own.model), done.outcomes["numpy"], done.epochs["numpy"][-1].train_loss)


def compared(run: Run, own: NumpyEngine) -> TrajectoryReport:
    """Train an engine beside the run's torch twin, and compare every step, and what both say of test images."""
    evaluation = Evaluation(run.inputs(run.test[:EVALUATED]))
    with one_thread_each():
        return check_trajectory(
            own, run.torch_engine(), run.batches(), evaluation=evaluation, seed=run.seed, sensitivity=False
        )


def verdict(report: TrajectoryReport) -> str:
    """Return the sentence that ends a fair run."""
    return summarise_trajectory(trajectory_to_json(report, *NAMES), NAMES)
