"""A right gradient, and an output that is stuck; a dropout that is never off."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from examples.case_studies.layers import Dropout, NeverOff
from examples.case_studies.page import SECONDS, Study, code, counted, headline, named, quoted, spread, table, tell
from examples.case_studies.runs import Learned, before, chain, compared, engine, trained, verdict
from gradcheck import check_layer, check_loss
from gradcheck.contract import Array, Context, Key
from nets.cautions import Caution, doubts
from nets.datasets.dataset import CLASSES
from nets.injection import parse_fault
from nets.metrics import score
from nets.presets import PRESETS, configured
from nets.run import Run, prepare

# N(0, 1 / fan in) in place of N(0, 1).
SCALED = {"weights": 'KaimingNormal(nonlinearity="linear")'}
DROPPING = {"network": "Linear(784, 30), ReLU(), Dropout(0.2), Linear(30, 10)"}


def story(study: Study) -> Iterator[str]:
    """Tell the case."""
    normal, scaled = (_after_an_epoch(study, given) for given in ({}, SCALED))
    warnings = [f"seed {seed}: {text}" for seed, one in enumerate(normal) for text in one.warnings]
    yield headline("84.05 % from scratch, 95.36 % in PyTorch", next(iter(warnings), "no class is lost"))
    yield (
        "After Nielsen's book: 784-30-10, sigmoids, quadratic cost, weights and biases from N(0, 1), a rate of 3, ten"
        " images a step, 30 epochs. The PyTorch side is said to be the same model, but it has ReLU, cross-entropy,"
        " other initial weights and dropout. The gradient of the NumPy side is right. These are the checks of its last"
        " layer, its activation and its loss on four digits, and the comparison with the same network in PyTorch:"
    )
    yield from _right(study)
    if warnings:
        yield (
            "But such weights, with this cost and this rate, can keep an output low. The warnings of `mnistcheck train`"
            f" after one epoch, from {counted(len(normal), 'seed')}:"
        )
        yield quoted(*warnings)
    else:
        yield f"After one epoch no class is lost in {counted(len(normal), 'run')}: these numbers do not show the fault."
    yield "The same seeds, with these weights and with weights divided by the square root of the number of inputs:"
    yield table(
        ("weights from", "test accuracy after one epoch", "runs that lack a class"),
        [
            (name, spread([one.accuracy for one in found]), f"{_lacking(found)} of {len(found)}")
            for name, found in (("N(0, 1)", normal), ("N(0, 1 / inputs)", scaled))
        ],
    )
    yield (
        "With the scaled weights fewer runs lack a class."
        if _lacking(scaled) < _lacking(normal)
        else "These numbers do not show that scaled weights do better."
    )
    yield (
        "On MNIST all ten seeds recover within 30 epochs ([training.md](training.md)). The published 84.05 % after 30"
        " epochs may be a run that did not. The accuracy of each class would show it."
    )
    yield from _never_off(study)


def _right(study: Study) -> Iterator[str]:
    """Tell that every part is right."""
    run = prepare(PRESETS["nielsen"], study.dataset, steps=study.of(300, 10))
    model, x = chain(run.model()), run.inputs(run.train[:4])
    reports = [
        check_layer(layer, before(model, place, x), seconds=SECONDS) for place, layer in enumerate(model.layers)
    ][-2:]
    reports.append(check_loss(run.preset.loss, model.forward(x)[0], run.targets(run.train[:4].labels), seconds=SECONDS))
    yield quoted(*(str(report).splitlines()[0] for report in reports), verdict(compared(run, engine(run))))


class Epoch(NamedTuple):
    """Test accuracy after one epoch, and what is warned of."""

    accuracy: float
    warnings: list[str]


def _lacking(found: list[Epoch]) -> int:
    """Return how many runs never recognise some class."""
    return sum(bool(one.warnings) for one in found)


def _after_an_epoch(study: Study, given: dict[str, str]) -> list[Epoch]:
    """Return what each seed comes to."""
    found = []
    for seed in range(study.of(10, 2)):
        run = prepare(configured(PRESETS["nielsen"], given), study.dataset, epochs=1, seed=seed)
        outcome = trained(run).outcome
        told = doubts(run, {"numpy": outcome})
        warnings = [doubt.text for doubt in told if doubt.caution is Caution.CLASS_NOT_RECALLED]
        found.append(Epoch(outcome.test_accuracy, warnings))
    return found


def _never_off(study: Study) -> Iterator[str]:
    """Tell what dropout does in evaluation, and by whose images a model was chosen."""
    ((layer, x),) = NeverOff.cases()
    report = check_layer(layer, x, seconds=SECONDS)
    yield f"### The PyTorch side\n\n> {named(report)}"
    yield "It calls dropout as a function, which is not switched off after training. As a layer:"
    yield code(Dropout.forward, NeverOff)
    yield quoted(report)
    yield "A network with it, compared with the same network in PyTorch, whose dropout is off in evaluation:"
    preset = configured(PRESETS["nielsen:torch"], DROPPING)
    run = prepare(preset, study.dataset, steps=1)
    yield quoted(verdict(compared(run, engine(run).planted(parse_fault("dropout-on", run)))))
    epochs, seeds = study.of(2, 1), range(study.of(3, 1))
    yield (
        f"`{DROPPING['network']}` with cross-entropy and a rate of 0.5, after {counted(epochs, 'epoch')};"
        f" {counted(len(seeds), 'network')}, each tested with dropout on and off:"
    )
    runs = [prepare(preset, study.dataset, epochs=epochs, seed=seed) for seed in seeds]
    done = [trained(run) for run in runs]
    on = [_with_dropout(run, one) for run, one in zip(runs, done, strict=True)]
    off = [one.outcome.test_accuracy for one in done]
    yield table(("dropout in evaluation", "test accuracy"), [("on", spread(on)), ("off", spread(off))])
    yield (
        "With it on, every network does worse."
        if all(one < other for one, other in zip(on, off, strict=True))
        else "These numbers do not show that it does harm."
    )
    yield (
        "The published program has another network. When its code was run, that reached 95.5 % with dropout on and"
        " 97.85 % with it off. `mnistcheck train --preset nielsen:torch` also warns about its validation images:"
    )
    run = prepare(PRESETS["nielsen:torch"], study.dataset)
    yield quoted(*(f"{doubt.caution}: {doubt.text}" for doubt in doubts(run, {})))


def _with_dropout(run: Run, done: Learned) -> float:
    """Return the test accuracy with dropout left on."""
    step = count()

    def predict(x: Array) -> Array:
        return done.model.forward(x, Context(training=True, key=Key(run.seed, next(step))))[0]

    return score(predict, run.chunks(run.test), CLASSES).accuracy


if __name__ == "__main__":
    tell(story)
