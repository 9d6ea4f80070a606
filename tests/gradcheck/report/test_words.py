"""The sentences that people read, made from results that say so."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.contract import Case, ShapeError
from gradcheck.diagnosis.evidence import Cause, Diagnosis
from gradcheck.diagnosis.fits import Quantity
from gradcheck.numerics.agreement import Verdict, Worst
from gradcheck.numerics.functions import function_of
from gradcheck.report.checks import describe_silence
from gradcheck.report.diagnoses import SENTENCES, describe_diagnosis
from gradcheck.report.json import free_run_to_json, lock_step_to_json, strict, trajectory_to_json
from gradcheck.report.results import Finding, GradientMismatch, Report
from gradcheck.report.runs import describe_free_run, describe_lock_step, summarise_trajectory
from gradcheck.report.steps import describe_divergence
from gradcheck.subjects.twin import twin_of
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch
from nets.layers import Linear
from nets.schedules import ConstantRate
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights

CLEAN = check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), batches(20))
FAULTY = check_trajectory(Neuron(weights(), corrupt=lambda _, grad: grad * 1.5), Neuron(weights()), batches(20))
SILENT = check_trajectory(
    Neuron(np.zeros(6)), Neuron(np.zeros(6)), [Batch(batch.x, batch.y * 0, 0.1) for batch in batches(3)]
)
NOTHING = check_trajectory(Neuron(weights()), Neuron(weights()), [])


def test_lock_step_in_words() -> None:
    assert describe_lock_step(lock_step_to_json(CLEAN.lock_step)).startswith(
        "140 comparisons, as shares of the allowance: median 0."
    )
    assert describe_lock_step(lock_step_to_json(FAULTY.lock_step)) == "20 of 20 steps are wrong"
    assert describe_lock_step(lock_step_to_json(NOTHING.lock_step)) == "nothing was compared"
    assert describe_lock_step(lock_step_to_json(SILENT.lock_step)).endswith(
        "; no gradient was above rounding noise, so none was tested"
    )
    untested = replace(CLEAN.lock_step, uninformative=("0.bias",))
    assert describe_lock_step(lock_step_to_json(untested)).endswith("; never above rounding noise, so untested: 0.bias")


def test_free_run_in_words() -> None:
    assert describe_free_run(free_run_to_json(CLEAN.free_run)).endswith(" apart; horizon not reached")
    assert describe_free_run(free_run_to_json(FAULTY.free_run)) == "leaves its shadows at step 0, param/0.weight"
    assert describe_free_run(free_run_to_json(NOTHING.free_run)) == "nothing was compared"
    over = replace(CLEAN.free_run, horizon_step=1234)
    assert describe_free_run(free_run_to_json(over)).endswith(
        "horizon at step 1,234: from there rounding alone parts any two runs"
    )


def test_the_last_sentence() -> None:
    assert summarise_trajectory(trajectory_to_json(CLEAN, "a", "b"), {"a": "A", "b": "B"}) == (
        "PASS: A and B are the same program: all of 20 steps agree within rounding noise."
    )
    assert summarise_trajectory(trajectory_to_json(FAULTY, "a", "b"), {"a": "A", "b": "B"}).startswith(
        "FAIL: A and B are not the same program. They part at step 0, backward, 0.weight["
    )
    assert summarise_trajectory(trajectory_to_json(SILENT, "a", "b"), {"a": "A", "b": "B"}) == (
        "INCONCLUSIVE: 3 steps were compared, and none could tell right from wrong: "
        "no gradient was above rounding noise."
    )


def test_a_divergence_that_has_no_finite_size() -> None:
    found = FAULTY.first_divergence
    assert found is not None
    found = replace(found, diagnosis=None)
    assert describe_divergence(replace(found, ratio=math.inf, allowed=0.0), 8).endswith("(they must be equal)")
    assert describe_divergence(replace(found, ratio=math.inf, ours=math.nan), 8).endswith("(one is not finite)")
    named = replace(found, message="is wrong", tensor="fc1.weight", diagnosis="fc1.weight's gradient is stale")
    assert describe_divergence(named, 8).endswith("is wrong. fc1.weight's gradient is stale")
    assert describe_divergence(replace(named, tensor="optim/ema.b", diagnosis="b is"), 8).endswith(". b is")
    assert describe_divergence(replace(named, diagnosis="every update is off"), 8).endswith(". Every update is off")
    assert describe_divergence(replace(found, message="has no gradient"), 8) == (
        "step 0, backward, 0.weight: ours has no gradient"
    )


def test_what_is_not_finite_is_a_string_in_strict_json() -> None:
    assert strict({"a": [math.inf, (math.nan, 1.0)]}) == {"a": ["inf", ["nan", 1.0]]}
    poisoned = replace(CLEAN.lock_step, ratios=np.array([0.1, math.inf]))
    for document in (
        lock_step_to_json(poisoned),
        free_run_to_json(NOTHING.free_run),
        lock_step_to_json(NOTHING.lock_step),
    ):
        json.dumps(strict(document), allow_nan=False)


def test_a_failed_report_shows_cause_element_values_and_case_first() -> None:
    finding = Finding(
        subject="Linear",
        property="gradients_agree_with_differences",
        verdict=Verdict.FAIL,
        examples=25,
        failing=3,
        worst=Worst("bias", (2,), 0.25, 1.0, 1e-12, 7.5e11),
        diagnosis="bias's gradient is exactly 1/4 of the numerical one; 4 is the batch size",
        case=Case(Linear(np.ones((3, 2)), np.zeros(3)), (np.full((4, 2), 0.5),), seed=9),
    )
    held = Finding("Linear", "backward_is_linear", Verdict.PASS, worst=Worst("bias", (0,), 1.0, 1.0, 1e-15, 0.5))
    unclear = Finding("Linear", "precisions_agree", Verdict.INCONCLUSIVE, message="the output stays float32")
    report = Report("Linear", (held, finding, unclear), 1234, 7)
    with pytest.raises(GradientMismatch) as caught:
        report.raise_if_failed()
    assert str(caught.value).splitlines() == [
        "FAIL: Linear: 1 of 3 properties hold, 1 fail, 1 is inconclusive",
        "Linear: gradients agree with differences: FAIL in 3 of 25 cases",
        "  bias's gradient is exactly 1/4 of the numerical one; 4 is the batch size",
        "  bias[2]: analytic 0.25, numeric 1.0",
        "  difference 0.75, allowed 1e-12, ratio 7.5e+11",
        "  failing case: input of shape (4, 2), weight (3, 2), bias (3,), seed 9",
        "inconclusive: precisions agree: the output stays float32",
        "holds: backward is linear",
        "largest disagreement of those: 0.5 of the allowance, in bias[0]",
        "1,234 evaluations, seed 7",
    ]
    assert caught.value.report is report
    assert not report
    document = json.loads(report.to_json())
    assert (document["verdict"], document["worst"]["ratio"]) == ("fail", 7.5e11)
    assert [each["verdict"] for each in document["findings"]] == ["pass", "fail", "inconclusive"]
    Report("Linear", (held,), 1, 0).raise_if_failed()
    assert Report("Linear", (held, unclear), 1, 0)
    assert not Report("Linear", (unclear,), 1, 0)


def test_a_check_that_could_tell_nothing_says_why_in_one_line() -> None:
    silent = [Finding("Linear", claim, Verdict.INCONCLUSIVE, message="too much noise") for claim in ("one", "two")]
    assert describe_silence(Report("Linear", tuple(silent), 1, 0)) == "nothing could be told of Linear: too much noise"
    assert describe_silence(Report("Linear", (), 1, 0)) == "nothing could be told of Linear: no property applies to it"
    assert describe_silence(NOTHING) == "No step was compared: there were no batches."


def test_a_twin_of_another_shape_is_refused() -> None:
    class Wide(Linear):
        def twin(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            import torch

            return torch.nn.Linear(2, 5)

    layer = Wide(np.ones((3, 2)), np.ones(3))
    with pytest.raises(ShapeError, match=r"Wide's parameters are .*\(3, 2\).*, its twin's .*\(5, 2\)"):
        twin_of(Case(layer, (np.ones((1, 2)),)))


def test_only_layers_and_losses_are_functions_of_arrays() -> None:
    with pytest.raises(TypeError, match="a Layer or a Loss is a function of arrays, got ConstantRate"):
        function_of(Case(ConstantRate(0.1)))


BATCH = Quantity("batch", "output", (0,), 10)
OUTPUTS = Quantity("outputs", "output", (1,), 10)
EVERYTHING = Quantity("batch x outputs", "input", (0, 1), 10)
WIDTH = Quantity("axes", "input", (3,), 10)
AREA = Quantity("axes", "output", (2, 3), 10)
ODD = Quantity("batch", "output", (0,), 5)


@pytest.mark.parametrize(
    ("factor", "named", "said"),
    [
        ((1, 10), [(BATCH, False)], "exactly 1/10 of the numerical one; 10 is the batch size"),
        ((10, 1), [(OUTPUTS, False)], "exactly 10 times the numerical one; 10 is the number of outputs"),
        (
            (1, 10),
            [(BATCH, False), (WIDTH, False)],
            "exactly 1/10 of the numerical one; 10 is the batch size and the extent of the input's axis 3",
        ),
        (
            (5, 1),
            [(EVERYTHING, True)],
            "exactly 5 times the numerical one; 5 is half the number of elements (batch x outputs)",
        ),
        (
            (1, 5),
            [(AREA, True)],
            "exactly 1/5 of the numerical one; 5 is half the product of the extents of the output's axes 2 and 3",
        ),
        ((2, 5), [(ODD, True)], "exactly 2/5 times the numerical one; 5 is the batch size"),
        ((-1, 1), [], "exactly -1 times the numerical one, the sign is wrong"),
        ((-1, 10), [(BATCH, False)], "exactly -1/10 of the numerical one, the sign is wrong; 10 is the batch size"),
        ((2, 1), [], "exactly 2 times the numerical one"),
        (0.7312, [], "0.7312 times the numerical one everywhere"),
    ],
)
def test_a_factor_in_words(factor: object, named: list[tuple[Quantity, bool]], said: str) -> None:
    diagnosis = Diagnosis(Cause.FACTOR, {"factor": factor, "quantities": tuple(named)})
    assert describe_diagnosis("weight", diagnosis) == f"weight's gradient is {said}"


@pytest.mark.parametrize(
    ("cause", "details", "said"),
    [
        (Cause.ZERO, {}, "is identically zero"),
        (Cause.TRANSPOSED, {"axes": (1, 3)}, "is the numerical one with axes 1 and 3 exchanged"),
        (
            Cause.SHIFTED,
            {"axis": 2, "by": -1, "cyclic": False},
            "is the numerical one shifted by one backwards along axis 2; zeros follow",
        ),
        (
            Cause.PART_OF_DY_LEFT_OUT,
            {"axis": 3, "end": "first", "batch": False},
            "leaves out the first index of dy's axis 3",
        ),
        (
            Cause.CONSTANT_TERM,
            {"axes": (0, 1), "everything": True},
            "is off by the same amount everywhere: as when a term that is a sum or a mean is missing",
        ),
        (
            Cause.DERIVATIVE_OF_WRONG_ARRAY,
            {"function": "sigmoid", "given": "input"},
            "takes x for y in sigmoid's derivative, y (1 - y), where y is the output and x the input",
        ),
    ],
)
def test_causes_in_words(cause: Cause, details: dict[str, object], said: str) -> None:
    assert describe_diagnosis("weight", Diagnosis(cause, details)) == f"weight's gradient {said}"


def test_every_cause_has_a_sentence() -> None:
    assert SENTENCES.keys() == set(Cause)
