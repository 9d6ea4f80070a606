"""Every property of every registered part, and the weight round trip of every layer; a new part adds no test here."""

from __future__ import annotations

import pytest
import torch

from gradcheck.checks import check_class
from gradcheck.contract import Layer, Optimizer
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import DTYPES, Settings
from gradcheck.trials import EXAMPLES, Subject, drawn_cases, properties_of
from nets import INITIALIZERS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from nets.weights import FORMATS, decode, encode, from_torch, load_state_dict, state_dict, to_torch
from tests.nets.states import bits

pytestmark = pytest.mark.rounding

SUBJECTS: list[Subject] = [*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZERS]


# Claims about what not every part has: buffers, inputs that can be large, samples of their own, inputs that whole
# numbers are, shapes or indices to refuse, kinks.
OF_SOME = {
    "buffers_agree_with_twin",
    "extreme_values_agree_with_twin",
    "extreme_values_stay_finite",
    "gradients_of_samples_do_not_mix",
    "indices_out_of_range_are_refused",
    "integers_are_taken_as_numbers",
    "kinks_are_where_choices_change",
    "wrong_shapes_are_refused",
}


# How many cases are drawn: two, which catch most planted faults, or more where those two tell nothing; and as many as
# `mnistcheck verify` draws.
MORE = 8
EXAMPLES_TRIED = [pytest.param(2, id="few"), pytest.param(EXAMPLES, id="all", marks=pytest.mark.long)]


# Of an optimizer, whose cases take longest for their steps: fewer cases in the long run, and in the short one fewer
# steps, four before the rate changes and four after.
FEWER, FEW_STEPS = 10, 8


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.__name__)
@pytest.mark.parametrize("examples", EXAMPLES_TRIED)
def test_every_property_holds(subject: Subject, examples: int) -> None:
    settings = Settings()
    if issubclass(subject, Optimizer):
        settings = settings if examples == EXAMPLES else Settings(steps=FEW_STEPS)
        examples = min(examples, FEWER)
    report = check_class(subject, examples=examples, settings=settings)
    if examples < MORE and any(finding.verdict is Verdict.INCONCLUSIVE for finding in report.findings):
        report = check_class(subject, examples=MORE, settings=settings)
    report.raise_if_failed()
    assert {
        finding.property: finding.verdict for finding in report.findings if finding.verdict is not Verdict.PASS
    } == {}
    claims = {claim.__name__ for claim in properties_of(subject)}
    assert claims - {finding.property for finding in report.findings} <= OF_SOME


@pytest.mark.short(4)
@pytest.mark.parametrize("subject", [*LAYERS, *LOSSES], ids=lambda subject: subject.__name__)
def test_gradients_hold_in_fast_mode(subject: Subject) -> None:
    claims = [claim for claim in properties_of(subject) if claim.__name__ == "gradients_agree_with_differences"]
    report = check_class(subject, claims=claims, examples=3, settings=Settings("fast"))
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("layer_type", LAYERS, ids=lambda layer: layer.__name__)
@pytest.mark.parametrize("examples", EXAMPLES_TRIED)
def test_weights_survive_the_round_trip_bit_for_bit(layer_type: type[Layer], examples: int) -> None:
    for case in drawn_cases(layer_type, examples, seed=0):
        for dtype in DTYPES:
            assert isinstance(case.subject, Layer)
            layer, rng = case.subject.astype(dtype), case.rng("directions")
            for array in state_dict(layer).values():
                array[...] = rng.standard_normal(array.shape)  # full mantissas
            sent = {name: array.copy() for name, array in state_dict(layer).items()}
            module = layer.twin().to(getattr(torch, dtype))
            to_torch(layer, module)
            assert bits({name: tensor.numpy() for name, tensor in module.state_dict().items()}) == bits(sent)
            for way in ("torch", *FORMATS):
                for array in state_dict(layer).values():
                    array[...] = 0
                if way == "torch":
                    from_torch(module, layer)
                else:
                    load_state_dict(layer, decode(encode(sent, way), way))
                assert bits(state_dict(layer)) == bits(sent)
