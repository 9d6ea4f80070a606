"""Mistakes in linear layers."""

from __future__ import annotations

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Linear
from tests.nets.faults.fault import DIFFERENCES, SHAPES, TWIN, caught_by
from tests.nets.faults.passes import with_gradient, with_pullback


@caught_by(DIFFERENCES, SHAPES, name="LIN-01")
class BiasNotSummed(Linear):
    """Does not sum the bias gradient over the batch."""

    forward = with_gradient("bias", lambda _, dy: dy.copy())


@caught_by(DIFFERENCES, TWIN, tensor="bias", name="LIN-01")
class FirstRowForTheBias(Linear):
    """Uses only the first row for the bias gradient."""

    forward = with_gradient("bias", lambda _, dy: dy.reshape(-1, dy.shape[-1])[0].copy())


@caught_by(DIFFERENCES, TWIN, tensor="bias", name="LIN-03")
class BiasByMean(Linear):
    """Averages the bias gradient over the batch."""

    forward = with_gradient("bias", lambda _, dy: dy.reshape(-1, dy.shape[-1]).mean(axis=0))


@caught_by(DIFFERENCES, tensor="bias")
class BiasIgnored(Linear):
    """Returns zeros as the bias gradient."""

    forward = with_gradient("bias", lambda at, dy: 0 * at.right(dy)[1]["bias"])


@caught_by(DIFFERENCES, SHAPES, TWIN, "backward_is_linear")
class BiasForgotten(Linear):
    """Leaves the bias out of the gradients."""

    forward = with_pullback(lambda at, dy: (at.right(dy)[0], {"weight": at.right(dy)[1]["weight"]}))


@caught_by("arguments_are_left_untouched", name="LIN-04")
class MovesOnItsWayBack(Linear):
    """Updates its weight in the backward pass, and computes dx with the updated weight."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            _, grads = right(dy)
            self.weight[...] -= 0.1 * grads["weight"]
            return right(dy)[0], grads

        return y, backward


@caught_by("arguments_are_left_untouched")
@caught_by(DIFFERENCES, tensor="input")
class CentredInPlace(Linear):
    """Centres its input in place."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x -= x.mean() + 1
        return super().forward(x, context)


@caught_by("wrong_shapes_are_refused")
class Broadcasting(Linear):
    """Does not check shapes, so a wrong one gives NumPy's error."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x @ self.weight.T
        return super().forward(x, context)


@caught_by(DIFFERENCES, TWIN, "gradients_of_samples_do_not_mix", tensor="weight", name="LIN-03")
class WeightByMean(Linear):
    """Averages the weight gradient over the batch, although the loss has done so already."""

    forward = with_gradient("weight", lambda at, dy: at.right(dy)[1]["weight"] / len(at.x))
