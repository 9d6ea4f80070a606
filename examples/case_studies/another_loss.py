"""A loss that is told, and another that is descended."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from examples.case_studies.layers import DescendsAnother, MeanSquares
from examples.case_studies.page import SECONDS, Study, code, counted, headline, named, quoted, table, tell
from examples.case_studies.runs import before, chain, compared, engine, trained, verdict
from gradcheck import check_loss
from gradcheck.contract import Array, Loss
from gradcheck.report.json import free_run_to_json
from gradcheck.report.runs import describe_free_run
from nets.cautions import doubts
from nets.layers import Sequential
from nets.losses import MSELoss, SummedBCELoss
from nets.presets import PRESETS, configured
from nets.run import Run, prepare


def story(study: Study) -> Iterator[str]:
    """Tell the case."""
    told, descended = PRESETS["sigmoid-mse"], PRESETS["sigmoid-bce"]
    epochs = study.of(100, 1)
    run = prepare(told, study.dataset, epochs=epochs)
    first = run.train[:1]
    prediction = run.model().forward(run.inputs(first))[0]
    report = check_loss(DescendsAnother(), prediction, run.targets(first.labels), seconds=SECONDS)
    yield headline("97.5 % from scratch, 22.5 % in PyTorch", named(report))
    yield (
        "784-128-10, sigmoids, one image a step, 1,000 images, 100 epochs. Both sides are said to minimise the mean"
        " squared error. PyTorch does. The NumPy side reports it, but its backward pass starts from the plain"
        " difference of output and target:"
    )
    yield code(MeanSquares.forward, DescendsAnother)
    yield "`gradcheck.check_loss(loss, prediction, target)`, with the outputs of the network for one digit:"
    yield quoted(report)
    yield (
        "That program also takes this difference for the gradient before the last sigmoid. There it is right, but for"
        " another loss: binary cross-entropy, summed over the outputs. For an output a with target y that gradient is"
        " a - y. The mean over ten squares has (2/10) (a - y) a (1 - a). The first is 5 / (a (1 - a)) times the second."
        " As a (1 - a) is at most 1/4, this factor is at least 20. Measured over all outputs of the training images,"
        " with the backward passes of both losses:"
    )
    squares = trained(run)
    rows = []
    for name, model in (("before training", chain(run.model())), ("after training", squares.model)):
        least, median = np.quantile(_factors(run, model), (0, 0.5))
        rows.append((name, f"{least:.5g}", f"{median:.5g}"))
    yield table(("gradients before the sigmoid", "least factor", "median factor"), rows)
    bare = configured(descended, {"loss": "MSELoss()"})
    others = [trained(prepare(preset, study.dataset, epochs=epochs)) for preset in (bare, descended)]
    done = {
        ("mean squared error", "22.5 %"): squares,
        ("mean squared error, no biases", "-"): others[0],
        ("binary cross-entropy, no biases", "97.5 %, elsewhere 96.5 % and 87.6 %"): others[1],
    }
    yield f"{counted(epochs, 'epoch')} of each loss, at the published rates. The published NumPy network has no biases:"
    yield table(
        ("trained on", "training accuracy", "test accuracy", "published"),
        [
            (name, f"{one.outcome.train_accuracy:.2%}", f"{one.outcome.test_accuracy:.2%}", published)
            for (name, published), one in done.items()
        ],
    )
    yield "`mnistcheck train --preset sigmoid-bce:as-told` warns about such a run:"
    as_told = prepare(PRESETS["sigmoid-bce:as-told"], study.dataset)
    yield quoted(*(f"{doubt.caution}: {doubt.text}" for doubt in doubts(as_told, {})))
    yield "NumPy compared with PyTorch, with the same loss, initial weights and order on both sides:"
    run = prepare(descended, study.dataset, steps=study.of(3000, 20))
    report_of_both = compared(run, engine(run))
    yield quoted(verdict(report_of_both), f"free-run: {describe_free_run(free_run_to_json(report_of_both.free_run))}")


def _factors(run: Run, model: Sequential) -> Array:
    """Return by how many times the gradients of both losses differ before the last sigmoid, (batch, outputs)."""
    inputs, labels = run.inputs(run.train), run.train.labels
    prediction, backward = model.layers[-1].forward(before(model, -1, inputs))

    def of(loss: Loss) -> Array:
        value, loss_backward = loss.forward(prediction, run.targets(labels))
        return backward(loss_backward(np.ones_like(value)))[0]

    return of(SummedBCELoss()) / of(MSELoss())


if __name__ == "__main__":
    tell(story)
