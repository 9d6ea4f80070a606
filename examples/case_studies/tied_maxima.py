"""Every tied maximum of a pool, given the full gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from examples.case_studies.page import SECONDS, Study, code, counted, headline, named, quoted, spread, table, tell
from examples.case_studies.runs import before, chain, planted, trained
from gradcheck import check_gradients, check_layer
from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import MaxPool2d, Sequential
from nets.presets import PRESETS
from nets.run import Run, prepare


class EveryTiedMaximum(MaxPool2d):
    """Gives every pixel that equals its window's maximum the window's full gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        tied = self._columns(x) == y[:, :, None]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return self._windows().images(tied * dy[:, :, None], *x.shape[2:]), {}

        return y, backward


POOL = EveryTiedMaximum(2)


def pool(x: Array) -> Array:
    """Return the maxima of windows of 2 x 2."""
    return POOL.forward(x)[0]


def vjp(inputs: tuple[Array, ...], dy: Array) -> tuple[Array]:
    """Return their gradient."""
    return (POOL.forward(inputs[0])[1](dy)[0],)


def story(study: Study) -> Iterator[str]:
    """Tell the case."""
    drawn = np.random.default_rng(0).standard_normal((2, 1, 6, 6))
    run = prepare(PRESETS["cnn"], study.dataset, train_size=study.of(1000, 100))
    patch = run.inputs(run.train[:1])[:, :, 10:18, 10:18]
    report = check_layer(POOL, patch, seconds=SECONDS)
    yield headline("A fault that random numbers do not show", named(report))
    yield (
        "There is no published number here, but the fault is frequent: the backward pass of a max-pool uses a mask of"
        " all pixels that equal the maximum. If several do, each gets the full gradient, which may be given only once."
    )
    yield code(EveryTiedMaximum)
    yield (
        "Random numbers do not tie, and for them alone its gradient is right;"
        " `gradcheck.check_gradients(pool, (x,), vjp, variations=False)`:"
    )
    yield quoted(check_gradients(pool, (drawn,), vjp, variations=False))
    yield "`gradcheck.check_layer(layer, x)` also makes inputs with ties from these numbers:"
    yield quoted(check_layer(POOL, drawn, seconds=SECONDS))
    yield "And on 8 x 8 pixels from the middle of a digit:"
    yield quoted(report)
    yield from _how_many(run)
    yield from _how_far(study)


def _how_many(run: Run) -> Iterator[str]:
    """Tell how many windows tie."""
    network, images = chain(run.model()), run.inputs(run.train)
    maps = {
        f"the {len(images):,} images themselves": images,
        "after the first convolution": before(network, 1, images),
        "after its ReLU": before(network, 2, images),
        "after the second convolution and its ReLU": before(network, 5, images),
        "random numbers": np.random.default_rng(1).standard_normal(images.shape),
    }
    yield "How many windows of 2 x 2 have more than one maximum, in the network `cnn` with initial weights:"
    rows = [(name, *(f"{share:.1%}" for share in _shares(array))) for name, array in maps.items()]
    yield table(("windows of", "tied", "tied above zero", "all four equal"), rows)


def _shares(x: Array) -> tuple[float, float, float]:
    """Return the shares of windows with several maxima, with several above zero, and of equal pixels only."""
    batch, channels, height, width = x.shape
    windows = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
    most = windows.max(axis=(3, 5), keepdims=True)
    count = (windows == most).sum(axis=(3, 5))
    return (
        float(np.mean(count > 1)),
        float(np.mean((count > 1) & (most[:, :, :, 0, :, 0] > 0))),
        float(np.mean(count == 4)),
    )


def _how_far(study: Study) -> Iterator[str]:
    """Tell how far off gradients are, and what training comes to."""
    seeds, epochs = range(study.of(4, 1)), study.of(2, 1)
    errors: dict[str, list[dict[str, float]]] = {"initial": [], "trained": []}
    right, wrong = [], []
    for seed in seeds:
        run = prepare(PRESETS["cnn"], study.dataset, train_size=study.of(1000, 100), epochs=epochs, seed=seed)
        done = trained(run)
        errors["initial"].append(_errors(run, chain(run.model())))
        errors["trained"].append(_errors(run, done.model))
        right.append(done.outcome.test_accuracy)
        wrong.append(trained(run, EveryTiedMaximum).outcome.test_accuracy)
    yield (
        "Where a ReLU is zero it passes no gradient, so ties at zero do no harm; those above zero do. The errors of"
        f" the gradients over {len(run.train):,} images, `|wrong - right| / |right|`, mean of"
        f" {counted(len(seeds), 'seed')}, with the backward pass of the whole network:"
    )
    names = {"0.weight": "first convolution", "0.bias": "its biases", "3.weight": "second", "3.bias": "its biases"}
    yield table(
        ("the error of", *names.values()),
        [
            (f"{name} weights", *(f"{np.mean([one[key] for one in found]):.2f}" for key in names))
            for name, found in errors.items()
        ],
    )
    yield (
        "The first convolution's biases are harmed more than its weights: in a flat background its output is its bias"
        " alone."
        if all(np.mean([one["0.bias"] - one["0.weight"] for one in found]) > 0 for found in errors.values())
        else "These numbers do not show that the first convolution's biases are harmed more than its weights, though in"
        " a flat background its output is its bias alone."
    )
    yield f"After {counted(epochs, 'epoch')} of {len(run.train):,} images with Adam:"
    yield table(
        ("the gradient goes in full to", "test accuracy"),
        [("all tied maxima", spread(wrong)), ("the first of them", spread(right))],
    )
    apart, between = abs(np.mean(wrong) - np.mean(right)), min(np.ptp(wrong), np.ptp(right))
    yield (
        "The two means differ by less than two seeds do, so an accuracy does not find this."
        if apart < between
        else "These numbers do not show whether an accuracy finds this."
    )


def _errors(run: Run, network: Sequential) -> dict[str, float]:
    """Return by how much of its size each parameter's gradient is off, in the 2-norm, over all training images."""
    x, labels = run.inputs(run.train), run.train.labels
    right, wrong = (_gradients(run, model, x, labels) for model in (network, planted(network, EveryTiedMaximum)))
    return {name: float(np.linalg.norm(wrong[name] - right[name]) / np.linalg.norm(right[name])) for name in right}


def _gradients(run: Run, network: Sequential, x: Array, labels: Array) -> Gradients:
    outputs, backward = network.forward(x)
    value, loss_backward = run.preset.loss.forward(outputs, labels)
    return backward(loss_backward(np.ones_like(value)))[1]


if __name__ == "__main__":
    tell(story)
