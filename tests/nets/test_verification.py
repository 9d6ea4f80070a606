"""Every property of every registered part, and the weight round trip of every layer; a new part adds no test here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.agreement import Verdict
from gradcheck.checks import Subject, check_class, properties_of
from gradcheck.contract import Case, Layer
from gradcheck.properties import Settings
from nets import INITIALIZERS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from nets.weights import FORMATS, decode, encode, from_torch, load_state_dict, state_dict, to_torch

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


@pytest.mark.parametrize(
    ("subject", "claim"),
    [
        pytest.param(subject, claim, id=f"{subject.__name__}-{claim.__name__}")
        for subject in SUBJECTS
        for claim in properties_of(subject)
    ],
)
def test_property(subject: Subject, claim: Any) -> None:  # noqa: ANN401  one of several kinds of property
    report = check_class(subject, claims=[claim])
    report.raise_if_failed()
    if claim.__name__ not in OF_SOME:
        assert report.findings
    if report.findings:
        assert report.verdict is Verdict.PASS


@pytest.mark.parametrize("subject", [*LAYERS, *LOSSES], ids=lambda subject: subject.__name__)
def test_gradients_hold_in_fast_mode(subject: Subject) -> None:
    claims = [claim for claim in properties_of(subject) if claim.__name__ == "gradients_agree_with_differences"]
    report = check_class(subject, claims=claims, settings=Settings("fast"))
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("layer_type", LAYERS, ids=lambda layer: layer.__name__)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weights_survive_the_round_trip_bit_for_bit(layer_type: type[Layer], dtype: Any) -> None:  # noqa: ANN401
    @given(layer_type.cases(), st.integers(0, 2**32 - 1))
    def attempt(case: Case, seed: int) -> None:
        assert isinstance(case.subject, Layer)
        layer, rng = case.subject.astype(dtype), np.random.default_rng(seed)
        for array in state_dict(layer).values():
            array[...] = rng.standard_normal(array.shape)  # full mantissas
        sent = {name: array.copy() for name, array in state_dict(layer).items()}
        module = layer.twin().to(getattr(torch, np.dtype(dtype).name))
        to_torch(layer, module)
        assert {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()} == {
            name: array.tobytes() for name, array in sent.items()
        }
        for way in ("torch", *FORMATS):
            for array in state_dict(layer).values():
                array[...] = 0
            if way == "torch":
                from_torch(module, layer)
            else:
                load_state_dict(layer, decode(encode(sent, way), way))
            assert {name: array.tobytes() for name, array in state_dict(layer).items()} == {
                name: array.tobytes() for name, array in sent.items()
            }

    attempt()
