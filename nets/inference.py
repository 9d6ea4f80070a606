"""What a trained network says of images, by both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import numpy as np

from gradcheck.contract import EVALUATION, Array, Loss
from gradcheck.numerics.agreement import severity
from gradcheck.trajectory.check import EvaluationCheck, EvaluationReport
from gradcheck.trajectory.engine import Engine
from nets.datasets.dataset import CLASSES
from nets.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, NLLLoss, SummedBCELoss
from nets.run import DTYPES, Program
from nets.training import SIDES, WEIGHTS
from nets.weights import load_state_dict

# How outputs (n, 10) become probabilities. Those of the binary losses are one for each class, which need not sum to 1.
PROBABILITIES: dict[type[Loss], Callable[[Array], Array]] = {
    CrossEntropyLoss: lambda outputs: _exp(outputs) / _exp(outputs).sum(axis=1, keepdims=True),
    NLLLoss: np.exp,
    BCEWithLogitsLoss: lambda outputs: 1 / (1 + np.exp(-outputs)),
    BCELoss: np.array,
    SummedBCELoss: np.array,
}


class Network:
    """A trained network: the weights of each side in that side's own engine.

    ``weights`` holds parameters and buffers by side and name. A side that was not trained has the other's. Raises
    `CheckpointError` and `ShapeError` for weights of another network.
    """

    def __init__(self, program: Program, weights: Mapping[str, Mapping[str, Array]]) -> None:
        self.program, self.weights = program, weights
        self.sides = tuple(side for side in SIDES if side in weights)
        model = program.model()
        self.engines: dict[str, Engine] = {}
        for side in SIDES:
            engine = program.numpy_engine() if side == "numpy" else program.torch_engine()
            load_state_dict(model, weights[side if side in weights else self.sides[0]])
            named = (("param", model.parameters()), ("buffer", model.buffers()))
            arrays = {f"{kind}/{name}": array for kind, found in named for name, array in found.items()}
            engine.load({**engine.state(), **arrays})
            self.engines[side] = engine

    @property
    def told(self) -> str:
        """What the numbers are that `predict` returns: ``probability``, or ``output`` where the loss knows of none."""
        return "probability" if type(self.program.preset.loss) in PROBABILITIES else "output"

    def predict(self, x: Array) -> dict[str, Array]:
        """Return the probabilities (n, 10) that each engine gives to the classes of inputs; or else its outputs."""
        convert = PROBABILITIES.get(type(self.program.preset.loss), np.array)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of weights that are ruined
            return {side: convert(engine.evaluate(x, EVALUATION)) for side, engine in self.engines.items()}

    def predict_all(self, chunks: Iterable[tuple[Array, Array]]) -> dict[str, Array]:
        """Return what `predict` does of many inputs, which come in chunks with their labels."""
        told = [self.predict(x) for x, _ in chunks]
        return {side: np.concatenate([one[side] for one in told]) for side in SIDES}

    def agreement(self, x: Array) -> EvaluationReport:
        """Return whether both engines say the same of inputs with the same weights, within rounding noise.

        Each side's weights are put to both; what is told is the worst.
        """
        return max((check(x) for check in self._checks), key=lambda report: severity(report.verdict, report.noise))

    @cached_property
    def _checks(self) -> list[EvaluationCheck]:
        """NumPy compared with PyTorch that has the weights of each side."""
        opinion = self.program.torch_engine(DTYPES["float32" if self.program.dtype == np.float64 else "float64"])
        found = []
        for side in self.sides:
            reference = self.program.torch_engine()
            reference.load({**reference.state(), **_weights(self.engines[side])})
            found.append(EvaluationCheck(self.engines["numpy"], reference, seed=self.program.seed, opinion=opinion))
        return found


def mistakes(probabilities: Array, labels: Array, count: int) -> Array:
    """Return the places of the ``count`` images whose wrong class is the most probable, the worst first.

    ``probabilities`` has shape (n, 10), ``labels`` (n,). Equal ones come in their order.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    return wrong[np.argsort(-confidence, kind="stable")][:count]


def confusion(probabilities: Array, labels: Array) -> Array:
    """Return how many images of each class (row) are taken for which (column), counts (10, 10), by scikit-learn."""
    from sklearn.metrics import confusion_matrix

    return np.asarray(confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(CLASSES)))


def _exp(outputs: Array) -> Array:
    """Return exponentials of a row, all divided by the largest."""
    return np.asarray(np.exp(outputs - outputs.max(axis=1, keepdims=True)))


def _weights(engine: Engine) -> dict[str, Array]:
    return {key: array for key, array in engine.state().items() if key.startswith(WEIGHTS)}
