"""Names, shapes, contexts and cases."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Key, Layer, Loss, ShapeError, require_shape
from gradcheck.numerics.rounding import Recorder
from gradcheck.streams import stream
from nets.layers import Flatten, Linear, ReLU, Sequential, Sigmoid
from nets.losses import CrossEntropyLoss, MSELoss


def small_linear(inputs: int = 2, outputs: int = 3) -> Linear:
    return Linear(np.arange(outputs * inputs, dtype=float).reshape(outputs, inputs), np.ones(outputs))


NESTED = Sequential((small_linear(), Sequential((Sigmoid(), small_linear(3, 1)))))


def test_parameters_are_named_by_walking_the_fields() -> None:
    assert {name: array.shape for name, array in NESTED.parameters().items()} == {
        "0.weight": (3, 2),
        "0.bias": (3,),
        "1.1.weight": (1, 3),
        "1.1.bias": (1,),
    }
    assert NESTED.buffers() == {}


def test_a_parameter_that_is_none_has_no_name() -> None:
    assert list(Linear(np.zeros((2, 2)), None).parameters()) == ["weight"]


def test_replaced_arrays_are_those_of_the_copy_only() -> None:
    new = np.full((1, 3), 7.0)
    copy = NESTED.replace_arrays({"1.1.weight": new})
    assert copy.parameters()["1.1.weight"] is new
    assert copy.parameters()["0.weight"] is NESTED.parameters()["0.weight"]
    assert not np.array_equal(NESTED.parameters()["1.1.weight"], new)


def test_a_cast_layer_is_a_copy_in_the_other_precision() -> None:
    single = NESTED.astype(np.float32)
    assert {array.dtype for array in single.parameters().values()} == {np.dtype(np.float32)}
    assert {array.dtype for array in NESTED.parameters().values()} == {np.dtype(np.float64)}


def test_taps_are_named_by_phase_path_and_tensor() -> None:
    recorder = Recorder()
    x = np.ones((4, 2))
    _, backward = NESTED.forward(x, Context(tap=recorder))
    backward(np.ones((4, 1)))
    assert list(recorder.taps) == [
        "forward/0.output",
        "forward/1.0.sigmoid",
        "forward/1.0.output",
        "forward/1.1.output",
        "forward/1.output",
        "backward/1.1.input",
        "backward/1.0.input",
        "backward/1.input",
        "backward/0.input",
    ]


def test_updates_of_buffers_are_proposed_by_name_and_thrown_away_without_a_place() -> None:
    updates: dict[str, Array] = {}
    Context(updates=updates).child("0").child("norm").update("mean", np.ones(2))
    Context().update("mean", np.ones(2))
    assert list(updates) == ["0.norm.mean"]


def test_the_key_of_randomness_is_seed_step_and_place() -> None:
    assert Context(key=Key(3, 5)).child("0").child("drop").key == (3, 5, "0.drop")


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (small_linear(4, 2), np.ones((3, 5)), "Linear needs x of shape (..., 4), got (3, 5)"),
        (small_linear(4, 2), np.array(1.0), "Linear needs x of shape (..., 4), got ()"),
        (Flatten(), np.ones(3), "Flatten needs x of at least 2 axes for start_dim=1, got (3,)"),
    ],
)
def test_a_wrong_shape_names_both(layer: Layer, x: Array, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        layer.forward(x)
    assert str(caught.value) == message


def test_require_shape_takes_words_for_any_extent() -> None:
    require_shape("Conv", "x", np.ones((2, 3, 4)), "batch", 3, "width")
    with pytest.raises(ShapeError, match=r"Conv needs x of shape \(batch, 3, width\), got \(2, 4, 4\)"):
        require_shape("Conv", "x", np.ones((2, 4, 4)), "batch", 3, "width")


CLASSES = CrossEntropyLoss()
NEEDED_PREDICTIONS = "CrossEntropyLoss needs predictions of shape (batch, classes), got (3,)"
NEEDED_TARGETS = "CrossEntropyLoss needs targets of shape (2,), got (2, 1)"


@pytest.mark.parametrize(
    ("loss", "prediction", "target", "message"),
    [
        (MSELoss(), np.ones((2, 3)), np.ones((3, 2)), "MSELoss needs targets of shape (2, 3), got (3, 2)"),
        (CLASSES, np.ones(3), np.zeros(3, int), NEEDED_PREDICTIONS),
        (CLASSES, np.ones((2, 3)), np.zeros((2, 1), int), NEEDED_TARGETS),
        (CLASSES, np.ones((2, 3)), np.zeros(2), "CrossEntropyLoss needs classes as integers, got float64"),
        (CLASSES, np.ones((2, 3)), np.array([0, 3]), "CrossEntropyLoss needs classes 0 to 2, got 0 to 3"),
        (CLASSES, np.ones((2, 3)), np.array([-1, 1]), "CrossEntropyLoss needs classes 0 to 2, got -1 to 1"),
    ],
)
def test_a_loss_refuses_targets_that_do_not_fit(loss: Loss, prediction: Array, target: Array, message: str) -> None:
    with pytest.raises(ValueError, match="needs") as caught:
        loss.forward(prediction, target)
    assert str(caught.value) == message


def test_a_case_draws_the_same_numbers_each_time() -> None:
    case = Case(ReLU(), (np.ones(3),), seed=4)
    assert case.rng("cotangent").random() == case.rng("cotangent").random()


def test_no_two_purposes_and_no_user_draw_the_same_numbers() -> None:
    def drawn(rng: np.random.Generator) -> bytes:
        return rng.standard_normal(4).tobytes()

    streams = {drawn(stream(purpose, seed)) for purpose in ("cotangent", "nudges") for seed in range(50)}
    users = {drawn(np.random.default_rng(seed)) for seed in range(50)}
    assert len(streams) == 100
    assert not streams & users


def test_interleaved_pullbacks_keep_their_own_inputs() -> None:
    layer, first, second = small_linear(), np.ones((1, 2)), np.full((1, 2), 5.0)
    pullbacks: list[Backward] = [layer.forward(x, EVALUATION)[1] for x in (first, second)]
    weights = [pullback(np.ones((1, 3)))[1]["weight"][0, 0] for pullback in pullbacks]
    assert weights == [1.0, 5.0]
