"""Right objects of any style pass, and faulty ones fail for the right reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from gradcheck.items import CONTRACTS
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import PROPERTIES
from tests.gradcheck.subjects.faulty import FAULTY
from tests.gradcheck.subjects.right import RIGHT

pytest.importorskip("torch")


# Left to the long run: what differs from another, which the short run checks, only in what it is given or holds; of
# faults also what another of the same kind of object shows by the same property.
LIKE_OTHERS = {
    "adagrad": "adam",
    "adamw": "adam",
    "affine of lists on images": "affine of lists",
    "average pool": "global average pool",
    "batch norm": "batch norm, twin",
    "batch norm of a course": "batch norm, twin",
    "batch norm of images": "batch norm, twin",
    "binary cross-entropy, no twin": "binary cross-entropy",
    "conv by loops": "conv by im2col",
    "conv of pixels": "conv by im2col",
    "dropout of a random state": "dropout of a generator",
    "elu": "gelu",
    "gelu by tanh": "gelu",
    "hard tanh": "leaky relu",
    "l1": "hinge",
    "layer norm of sequences": "layer norm",
    "linear of attributes": "linear of attributes, twin",
    "linear of dicts": "linear of dicts, twin",
    "log-softmax": "softmax",
    "max pool by loops": "max pool by reshape",
    "max pool by reshape of pixels": "max pool by reshape",
    "max pool by strides": "max pool by reshape",
    "overlapping max pool": "max pool by reshape",
    "rms norm": "layer norm",
    "rmsprop": "adam",
    "silu": "gelu",
    "softmax by jacobians": "softmax",
    "softmax cross-entropy of one-hot": "softmax cross-entropy",
    "softmax of logits far apart": "softmax",
    "softplus": "gelu",
    "stable sigmoid": "naive sigmoid",
    "sum of squares": "scale",
}
FAULTY_LIKE_OTHERS = {
    "adam, eps not scaled": "adam without the power",
    "another linear layer": "weight transposed",
    "attention, keys not turned": "residual without sum",
    "average pool, not divided": "max pool, every tie",
    "batch norm, N for N H W": "layer norm, gradients swapped",
    "batch norm, gamma averaged": "layer norm, gradients swapped",
    "batch norm, mean constant": "layer norm, gradients swapped",
    "batch norm, unbiased variance": "batch norm, biased running variance",
    "bce with logits as probabilities": "bce clipped",
    "bias averaged": "weight transposed",
    "bias of the first sample": "bias not summed",
    "conv, bias averaged": "conv, weight averaged",
    "conv, kernel flipped": "conv, weight averaged",
    "conv, overlaps overwritten": "conv, weight averaged",
    "cross-entropy times p (1 - p)": "cross-entropy without 1/N",
    "cross-entropy, weights over N": "cross-entropy of softmax",
    "decay times the gradient": "decay inactive",
    "dropout without mask in backward": "dropout not inverted",
    "dropout without scale in backward": "dropout not inverted",
    "gelu by tanh for gelu": "tanh without square",
    "gelu by tanh in backward": "tanh without square",
    "huber unclipped": "cross-entropy without 1/N",
    "label smoothing over C - 1": "cross-entropy of softmax",
    "layer norm, eps outside": "layer norm, gradients swapped",
    "leaky relu of negative slope by output": "relu ungated",
    "leaky relu, slope of its own": "relu ungated",
    "log-softmax without sum": "softmax over the batch",
    "max pool, padded with zeros": "max pool, every tie",
    "momentum with the rate in it": "momentum forgotten",
    "nesterov into the buffer": "nesterov of the new velocity",
    "nesterov's brackets": "nesterov of the new velocity",
    "rmsprop, eps in the root": "adam without the power",
    "rnn without carry": "residual without sum",
    "sigmoid of sigmoid": "tanh without square",
    "sigmoid of the input": "tanh without square",
    "silu without parentheses": "tanh without square",
    "softmax, diagonal only": "softmax over the batch",
    "squared error over the batch": "cross-entropy without 1/N",
    "squared error without 2": "cross-entropy without 1/N",
    "up-sampling, sub-sampled": "embedding, last of repeated",
    "weight averaged": "weight transposed",
}


def short_or_long(names: Iterable[str], like_others: Mapping[str, str]) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.long] if name in like_others else []) for name in names]


@pytest.mark.rounding
@pytest.mark.parametrize("name", short_or_long(RIGHT, LIKE_OTHERS))
def test_right_objects_pass(name: str) -> None:
    report = RIGHT[name].report()
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("name", short_or_long(FAULTY, FAULTY_LIKE_OTHERS))
def test_faulty_objects_fail_and_nothing_wrong_is_said_of_the_cause(name: str) -> None:
    faulty = FAULTY[name]
    report = faulty.report()
    failures = {finding.property: finding for finding in report.failures}
    assert faulty.caught_by in failures, str(report)
    said = failures[faulty.caught_by].diagnosis
    assert faulty.diagnosis is None or (faulty.diagnosis in said), said


def test_what_is_left_for_the_long_run_has_its_like_in_the_short_one() -> None:
    for objects, like_others in ((RIGHT, LIKE_OTHERS), (FAULTY, FAULTY_LIKE_OTHERS)):
        assert like_others.keys() <= objects.keys()
        assert set(like_others.values()) <= objects.keys() - like_others.keys()


def test_every_property_of_foreign_objects_alone_has_a_fault() -> None:
    native = {claim for kind, claims in PROPERTIES.items() if issubclass(kind, CONTRACTS) for claim in claims}
    own = {claim.__name__ for claims in PROPERTIES.values() for claim in claims if claim not in native}
    # The last is that of a published network: tests/test_case_studies.py.
    assert own == {
        "repeated_calls_agree",
        "modes_are_restored",
        "statistics_agree_with_twin",
        "evaluation_is_not_random",
    }
    assert own - {faulty.caught_by for faulty in FAULTY.values()} == {"evaluation_is_not_random"}
