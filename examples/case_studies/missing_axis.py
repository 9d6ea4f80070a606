"""A bias gradient whose sum lacks an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from examples.case_studies.page import SECONDS, Study, code, counted, headline, named, quoted, table, tell
from examples.case_studies.runs import before, chain, compared, engine, planted, verdict
from gradcheck import check_layer
from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.datasets.dataset import CLASSES
from nets.engines.torch_engine import one_thread_each
from nets.layers import Linear
from nets.metrics import score
from nets.presets import PRESETS, measured
from nets.run import Run, prepare

TRAINS = 2 / CLASSES  # an accuracy above which a network has learned something: twice that of guessing
DEVIATIONS = 2.0  # of the difference of two accuracies, within which it is put down to which images were tested


class BiasWithoutAnAxis(Linear):
    """Sums the bias's gradient over the units, too, and takes the mean of that one number."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)

        def without(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = backward(dy)
            return dx, grads | {"bias": np.full_like(grads["bias"], np.mean(np.sum(dy)))}

        return y, without


def story(study: Study) -> Iterator[str]:
    """Tell the case."""
    preset = PRESETS["nnmnist:scratch"]
    size = study.of(1000, 100)
    run = prepare(preset, study.dataset, train_size=size, batch_size=size, steps=1)
    layers = chain(planted(run.model(), BiasWithoutAnAxis)).layers
    report = check_layer(layers[-1], before(run.model(), -1, run.inputs(run.train[:4])), seconds=SECONDS)
    yield headline("84 % from scratch, 96 % in PyTorch", named(report))
    yield (
        "784-10-10, with a ReLU. The NumPy side takes 1,000 steps of gradient descent on all 41,000 images at once. The"
        " PyTorch side takes 205,000 steps of Adam on ten images each, and its figure is an accuracy on training"
        " images. The gap is put down to the optimisations of a professional framework. The NumPy side has this in both"
        " layers:"
    )
    yield code(BiasWithoutAnAxis)
    yield "`gradcheck.check_layer(layer, x)` on the last layer, with its input for four digits:"
    yield quoted(report)
    yield f"The whole network, compared with the same network in PyTorch, in its first step, on {size:,} images:"
    yield quoted(verdict(compared(run, engine(run, BiasWithoutAnAxis))))
    steps, run = study.of(300, 2), prepare(preset, study.dataset)
    done = {name: _descended(run, steps, faulty) for name, faulty in (("without", BiasWithoutAnAxis), ("with", None))}
    trains = min(one.trained_on for one in done.values()) > TRAINS
    yield (
        f"{'It trains anyway. ' if trains else ''}The gradients of softmax and cross-entropy for a sample's ten outputs"
        " sum to zero. So with this fault the gradient of each output bias is zero, up to rounding, and the bias keeps"
        " its initial value. The biases of the ten hidden units share one gradient. After"
        f" {counted(steps, 'step')} on all {len(run.train):,} images:"
    )
    yield table(
        ("axis", "test accuracy", "training accuracy", "largest gradient of an output bias"),
        [(name, f"{one.tested:.2%}", f"{one.trained_on:.2%}", f"{one.largest:.1e}") for name, one in done.items()],
    )
    without, right = done["without"].tested, done["with"].tested
    alike = trains and abs(without - right) < DEVIATIONS * math.sqrt(2 * right * (1 - right) / len(run.test))
    yield (
        f"An accuracy on {len(run.test):,} images does not tell these two programs apart; a check does, on four."
        if alike
        else "These numbers do not show whether an accuracy would tell the two programs apart; a check does, on four"
        " images."
    )
    ours = {name: measured()[name]["numpy"]["test_accuracy"] for name in ("nnmnist:scratch", "nnmnist")}
    yield (
        "The axis does not explain the published gap, either. On MNIST's test images the right program reaches"
        f" {ours['nnmnist:scratch']:.2%} with those 1,000 steps of gradient descent and {ours['nnmnist']:.2%} with"
        " those of Adam, in NumPy alone (`mnistcheck presets`)."
    )


class Descended(NamedTuple):
    """Test and training accuracy after some steps, and the largest gradient of an output bias on the way."""

    tested: float
    trained_on: float
    largest: float


def _descended(run: Run, steps: int, faulty: type[Linear] | None) -> Descended:
    """Return what steps on all images come to."""
    own, largest = engine(run, faulty), 0.0
    x, labels = next(run.epoch(0))
    with one_thread_each():
        for _ in range(steps):
            grads = own.step(x, labels, run.preset.schedule(0), Context(training=True)).grads
            largest = max(largest, float(np.abs(grads["2.bias"]).max()))
        tested, trained_on = (score(own.evaluate, run.chunks(part), CLASSES).accuracy for part in (run.test, run.train))
    return Descended(tested, trained_on, largest)


if __name__ == "__main__":
    tell(story)
