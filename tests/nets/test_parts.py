"""Layers at values known in closed form, extremes included; initialisers by their statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from gradcheck.agreement import Verdict
from gradcheck.autograd import set_keys
from gradcheck.checks import check_case, check_class, properties_of
from gradcheck.contract import Array, Case, Context, Key, Layer, ShapeError
from nets.initializers import Constant, Normal, XavierNormal, XavierUniform, fans_of, initialize
from nets.layers import BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, ReLU, Sequential, Sigmoid
from nets.optimizers import SGD
from nets.schedules import ConstantRate, MultiStepLR
from nets.weights import to_torch

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

TRAINING = Context(training=True)


def test_sigmoid_keeps_its_tails_and_never_overflows() -> None:
    x = np.array([-1000.0, -40.0, 0.0, 40.0, 1000.0])
    y, backward = Sigmoid().forward(x)
    assert y.tolist() == [0.0, math.exp(-40) / (1 + math.exp(-40)), 0.5, 1.0, 1.0]
    assert backward(np.ones(5))[0].tolist() == [0.0, y[1] * (1 - y[1]), 0.25, 0.0, 0.0]


def test_relu_has_slope_zero_at_zero() -> None:
    _, backward = ReLU().forward(np.array([-1.0, 0.0, 2.0]))
    assert backward(np.full(3, 5.0))[0].tolist() == [0.0, 0.0, 5.0]


def test_relu_blocks_even_an_infinite_gradient() -> None:
    _, backward = ReLU().forward(np.array([-1.0, 1.0]))
    assert backward(np.array([np.inf, 2.0]))[0].tolist() == [0.0, 2.0]


def test_relu_knows_its_kink() -> None:
    kinks = ReLU().kinks(np.array([-2.0, 0.5]))
    assert (kinks.choice.tolist(), kinks.margin.tolist()) == ([False, True], [2.0, 0.5])


def test_linear_sums_the_bias_gradient_over_every_leading_axis() -> None:
    _, backward = Linear(np.ones((2, 3)), np.zeros(2)).forward(np.ones((4, 5, 3)))
    assert backward(np.ones((4, 5, 2)))[1]["bias"].tolist() == [20.0, 20.0]


def test_a_convolution_at_known_values() -> None:
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    edges = replace(
        Conv2d.create(1, 1, (1, 2), stride=(2, 2)), weight=np.array([[[[-1.0, 3.0]]]]), bias=np.array([0.5])
    )
    y, backward = edges.forward(x)
    assert y.tolist() == [[[[3.5, 7.5], [19.5, 23.5]]]]
    dx, grads = backward(np.ones(y.shape))
    assert dx.tolist() == [[[[-1, 3, -1, 3], [0, 0, 0, 0], [-1, 3, -1, 3]]]]
    assert (grads["weight"].tolist(), grads["bias"].tolist()) == ([[[[20.0, 24.0]]]], [4.0])


def test_pixels_in_no_window_have_no_gradient() -> None:
    x = np.ones((1, 1, 6, 5))
    _, of_conv = Conv2d(np.ones((1, 1, 2, 2)), None, stride=(4, 3)).forward(x)
    assert (
        of_conv(np.ones((1, 1, 2, 2)))[0][0, 0].tolist()
        == [[1, 1, 0, 1, 1]] * 2 + [[0] * 5] * 2 + [[1, 1, 0, 1, 1]] * 2
    )
    _, of_pool = MaxPool2d(2, stride=3).forward(x)
    assert of_pool(np.ones((1, 1, 2, 2)))[0][0, 0, 5].tolist() == [0] * 5


def test_a_new_convolution_is_that_of_torch_with_zeros() -> None:
    layer = Conv2d.create(4, 6, (3, 2), 2, (1, 0), 1, 2)
    theirs = torch.nn.Conv2d(4, 6, (3, 2), 2, (1, 0), 1, 2)
    assert {k: a.shape for k, a in layer.parameters().items()} == {k: p.shape for k, p in theirs.named_parameters()}
    assert not any(array.any() for array in layer.parameters().values())


def test_of_equal_maxima_the_first_wins_and_overlaps_add_up() -> None:
    y, backward = MaxPool2d((1, 2), stride=1).forward(np.array([[[[2.0, 2.0, 1.0, 3.0]]]]))
    assert y.tolist() == [[[[2, 2, 3]]]]
    assert backward(np.array([[[[1.0, 10.0, 100.0]]]]))[0].tolist() == [[[[1, 10, 0, 100]]]]
    _, backward = MaxPool2d((1, 3), stride=1).forward(np.array([[[[1.0, 2.0, 5.0, 0.0, 0.0]]]]))
    assert backward(np.array([[[[1.0, 10.0, 100.0]]]]))[0].tolist() == [[[[0, 0, 111, 0, 0]]]]


def test_a_pool_takes_nan_and_infinities_as_torch_does() -> None:
    x = np.array([[[[np.nan, 1, -np.inf, -np.inf, np.inf, 2], [0, 3, -np.inf, -np.inf, np.inf, np.nan]]]])
    for pool in (MaxPool2d(2), MaxPool2d(2, padding=1), MaxPool2d((2, 1))):
        np.testing.assert_array_equal(pool.forward(x)[0], pool.twin()(torch.tensor(x)).numpy())
    assert MaxPool2d(2, padding=1, dilation=2).forward(np.ones((1, 1, 1, 1)))[0].tolist() == [[[[-np.inf]]]]


def test_a_pool_knows_its_winners_and_how_far_ahead_they_are() -> None:
    x = np.array([[[[1.0, 4.0, -np.inf, 7.0, 2.0], [3.0, 4.0, -np.inf, -np.inf, 2.0]]]])
    kinks = MaxPool2d(2, padding=(0, 1)).kinks(x)
    assert kinks.choice.tolist() == [[[[3, 0, 0]]]]
    assert kinks.margin.tolist() == [[[[2.0, 0.0, 5.0]]]]
    lonely = MaxPool2d((1, 2), padding=(0, 1)).kinks(x[:, :, :1, :2])
    assert (lonely.choice.tolist(), lonely.margin.tolist()) == ([[[[1, 0]]]], [[[[np.inf, np.inf]]]])


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(BatchNorm1d.create, (5, 3)), (BatchNorm1d.create, (4, 3, 2)), (BatchNorm2d.create, (2, 3, 4, 5))],
)
def test_running_statistics_are_torchs_after_training_and_evaluation_in_turns(
    make: Callable[[int], BatchNorm1d], shape: tuple[int, ...], momentum: float | None
) -> None:
    layer, rng = replace(make(3), momentum=momentum), np.random.default_rng(0)
    module = layer.twin().double()
    to_torch(layer, module)
    for step in range(20):
        x, training = rng.normal(3, 2, shape), step % 3 != 2
        updates: dict[str, Array] = {}
        y, _ = layer.forward(x, Context(training=training, updates=updates))
        theirs = module.train(training)(torch.tensor(x)).detach().numpy()
        assert (set(updates) == set(layer.buffers())) is training
        layer = layer.replace_arrays(updates)
        # Sums of some tens of numbers of size 1 to 10, 20 times over.
        np.testing.assert_allclose(y, theirs, rtol=0, atol=1e-13)
        for name, tensor in module.named_buffers():
            np.testing.assert_allclose(layer.buffers()[name], tensor.numpy(), rtol=1e-13)
    assert layer.buffers()["num_batches_tracked"] == 14


def test_a_normalised_batch_has_mean_zero_and_variance_one() -> None:
    x = np.random.default_rng(0).normal(7, 3, (50, 2, 4, 4))
    y, _ = BatchNorm2d.create(2).forward(x, TRAINING)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(
        y.var(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)) / (x.var(axis=(0, 2, 3)) + 1e-5), rtol=1e-13
    )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    ones = np.ones((100, 100))
    masks = [Dropout(p).forward(ones, Context(training=True, key=Key(1, step)))[0] for step in range(20)]
    kept, draws = np.mean([mask != 0 for mask in masks]), 20 * ones.size
    assert {value for mask in masks for value in np.unique(mask).tolist()} == {0.0, 1 / (1 - p)}
    # Five deviations of a binomial: wrong once in 1.7 million, were the keys drawn anew.
    assert abs(kept - (1 - p)) < 5 * math.sqrt(p * (1 - p) / draws)
    assert abs(np.mean(masks) - 1) < 5 * math.sqrt(p / (1 - p) / draws)


def test_dropouts_mask_is_that_of_its_key() -> None:
    def mask(key: Key, dtype: type = np.float64) -> bytes:
        return (Dropout().forward(np.ones(64, dtype), Context(training=True, key=key))[0] != 0).tobytes()

    keys = [Key(0, 0, "1"), Key(1, 0, "1"), Key(0, 1, "1"), Key(0, 0, "2"), Key(0, 0, "1.0")]
    assert len({mask(key) for key in keys}) == len(keys)
    assert mask(keys[0]) == mask(keys[0]) == mask(keys[0], np.float32)


def test_dropout_at_its_ends() -> None:
    x = np.array([1.0, -2.0, 3.0])
    for p, training, share in ((0.0, True, 1), (1.0, True, 0), (1.0, False, 1), (0.5, False, 1)):
        y, backward = Dropout(p).forward(x, Context(training=training))
        assert y.tolist() == backward(x)[0].tolist() == (x * share).tolist()


class DroppedTwice(Sequential):
    """Two dropouts of the same rate, with nothing between them but a nesting and a map that keeps every element."""

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases

        inner = st.builds(Linear, arrays((6, 6)), st.none()).map(lambda layer: Sequential((Dropout(0.5), layer)))
        return cases(inner.map(lambda layer: cls((Dropout(0.5), layer, Dropout(0.25)))), arrays((3, 6)))


def test_dropouts_in_a_chain_draw_masks_of_their_own_as_in_torch() -> None:
    report = check_class(DroppedTwice)
    assert [finding.property for finding in report.findings if finding.verdict is not Verdict.PASS] == []
    chain, x = Sequential((Dropout(0.5), Dropout(0.5))), np.ones(64)
    shown: dict[str, Array] = {}
    context = Context(training=True, tap=lambda name, array: shown.setdefault(name, array))
    y, _ = chain.forward(x, context)
    first, both = shown["forward/0.output"] != 0, y != 0
    assert 0 < both.sum() < first.sum()  # were the masks the same, the second would drop nothing
    module = chain.twin()
    set_keys(module, context.key)
    assert np.array_equal(module(torch.tensor(x)).numpy(), y)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d.create(2, 1, 3), (1, 3, 5, 5), "Conv2d needs x of shape (batch, 2, height, width), got (1, 3, 5, 5)"),
        (
            Conv2d.create(4, 2, 3, groups=2),
            (1, 2, 5, 5),
            "Conv2d needs x of shape (batch, 4, height, width), got (1, 2, 5, 5)",
        ),
        (Conv2d.create(2, 1, 3), (2, 5, 5), "Conv2d needs x of shape (batch, 2, height, width), got (2, 5, 5)"),
        (
            Conv2d.create(1, 1, 3, padding=(1, 0), dilation=2),
            (1, 1, 3, 4),
            "Conv2d needs x of at least 5 x 5 pixels, padding included, got 5 x 4",
        ),
        (MaxPool2d(2), (4, 4), "MaxPool2d needs x of shape (batch, channels, height, width), got (4, 4)"),
        (MaxPool2d((3, 2)), (1, 1, 2, 2), "MaxPool2d needs x of at least 3 x 2 pixels, padding included, got 2 x 2"),
        (BatchNorm1d.create(3), (4, 2), "BatchNorm1d needs x of shape (batch, 3), got (4, 2)"),
        (BatchNorm1d.create(3), (4, 2, 5), "BatchNorm1d needs x of shape (batch, 3, length), got (4, 2, 5)"),
        (BatchNorm1d.create(3), (4, 3, 5, 5), "BatchNorm1d needs x of shape (batch, 3), got (4, 3, 5, 5)"),
        (BatchNorm2d.create(3), (4, 3), "BatchNorm2d needs x of shape (batch, 3, height, width), got (4, 3)"),
        (
            BatchNorm1d.create(3),
            (1, 3),
            "BatchNorm1d needs more than one value per channel in training, got x of shape (1, 3)",
        ),
        (
            BatchNorm2d.create(2),
            (1, 2, 1, 1),
            "BatchNorm2d needs more than one value per channel in training, got x of shape (1, 2, 1, 1)",
        ),
    ],
)
def test_an_input_that_does_not_fit_is_refused(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        layer.forward(np.ones(shape), TRAINING)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d.create(4, 6, 3, groups=3), "Conv2d needs groups that divide its 4 input channels, got 3"),
        (lambda: Conv2d.create(3, 4, 3, groups=3), "Conv2d needs groups that divide its 4 output channels, got 3"),
        (lambda: Conv2d.create(3, 4, 3, groups=0), "Conv2d needs groups that divide its 3 input channels, got 0"),
        (lambda: Conv2d.create(1, 1, (0, 3)), "Conv2d needs kernel_size of at least 1, got (0, 3)"),
        (lambda: Conv2d.create(1, 1, 3, stride=(1, 0)), "Conv2d needs stride of at least 1, got (1, 0)"),
        (lambda: Conv2d.create(1, 1, 3, padding=-1), "Conv2d needs padding of at least 0, got (-1, -1)"),
        (lambda: MaxPool2d(2, dilation=0), "MaxPool2d needs dilation of at least 1, got (0, 0)"),
        (lambda: MaxPool2d(3, padding=2), "MaxPool2d needs padding of at most half its window of 3 x 3, got (2, 2)"),
        (
            lambda: MaxPool2d((4, 1), padding=(2, 1)),
            "MaxPool2d needs padding of at most half its window of 4 x 1, got (2, 1)",
        ),
        (
            lambda: replace(BatchNorm1d.create(2), bias=None),
            "BatchNorm1d needs weight and bias, or neither, got one of them",
        ),
        (
            lambda: BatchNorm2d(None, *(np.ones(2),) * 3, np.zeros((), np.int64)),
            "BatchNorm2d needs weight and bias, or neither, got one of them",
        ),
        (lambda: Dropout(1.5), "Dropout needs a probability p in [0, 1], got 1.5"),
        (lambda: Dropout(math.nan), "Dropout needs a probability p in [0, 1], got nan"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(ValueError, match="needs") as caught:
        make()
    assert str(caught.value) == message


def test_sgd_moves_in_place_and_skips_what_has_no_gradient() -> None:
    params = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    held = params["a"]
    SGD().step(params, {"a": np.array([1.0, -1.0])}, 0.5)
    assert params["a"] is held
    assert (held.tolist(), params["b"].tolist()) == ([0.5, 2.5], [3.0])


def test_schedules_at_their_milestones() -> None:
    assert [ConstantRate(0.3)(epoch) for epoch in (0, 7)] == [0.3, 0.3]
    steps = MultiStepLR(1.0, (2, 4), 0.5)
    assert [steps(epoch) for epoch in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


# Deviations of a statistic of n draws: a right initialiser is beyond five once in 10^6 seeds, and the seed is fixed.
SIGMAS = 5
SHAPE = (300, 200)
COUNT = 300 * 200


@pytest.mark.parametrize(
    ("rule", "variance", "kurtosis"),
    [
        (Normal(std=0.01), 1e-4, 3.0),
        (XavierNormal(), 2 / 500, 3.0),
        (XavierNormal(gain=2.0), 8 / 500, 3.0),
        (XavierUniform(), 2 / 500, 1.8),
    ],
)
def test_initial_weights_have_their_distribution(rule: Normal, variance: float, kurtosis: float) -> None:
    w = rule.draw(SHAPE, np.random.default_rng(0))
    assert w.shape == SHAPE
    assert w.dtype == np.float64
    assert abs(w.mean()) < SIGMAS * math.sqrt(variance / COUNT)
    assert abs(w.var() / variance - 1) < SIGMAS * math.sqrt((kurtosis - 1) / COUNT)
    fourth = ((w / math.sqrt(variance)) ** 4).mean()
    assert abs(fourth - kurtosis) < SIGMAS * math.sqrt(96 / COUNT)  # 96: the variance of a normal's fourth power


def test_uniform_weights_are_bounded() -> None:
    w = XavierUniform().draw(SHAPE, np.random.default_rng(0))
    bound = math.sqrt(6 / 500)
    assert 0.999 * bound < np.abs(w).max() <= bound


def test_fans_count_the_kernel() -> None:
    assert fans_of((8, 3, 5, 5)) == (75, 200)
    with pytest.raises(ValueError, match=r"fan-in and fan-out need a weight of shape \(out, in, ...\), got \(3,\)"):
        fans_of((3,))


def test_initialisation_fills_weights_and_biases_by_their_own_rules() -> None:
    model = Sequential((Linear.create(4, 3), Sigmoid(), Linear.create(3, 2)))
    initialize(model, np.random.default_rng(0), Normal(), Constant())
    arrays = model.parameters()
    assert all(arrays[name].all() for name in ("0.weight", "2.weight"))
    assert not any(arrays[name].any() for name in ("0.bias", "2.bias"))


@pytest.mark.parametrize("shape", [(4, 2, 28, 28), (32, 2, 28, 28)], ids=str)
def test_batch_statistics_of_many_pixels_agree_with_torch(shape: tuple[int, ...]) -> None:
    # Of one sign, so that torch's sums drift by many units in the last place.
    x = np.abs(np.random.default_rng(0).standard_normal(shape)) * 8
    claims = {"forward_agrees_with_twin", "buffers_agree_with_twin", "gradients_agree_with_twin"}
    layer = BatchNorm2d.create(2)
    for claim in properties_of(layer):
        if claim.__name__ in claims:
            outcome = check_case(Case(layer, (x,), training=True), claim)
            assert outcome is not None
            assert outcome.verdict is Verdict.PASS, outcome
