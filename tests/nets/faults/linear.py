"""Mistakes in linear layers."""

from __future__ import annotations

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Linear
from tests.nets.faults.fault import DIFFERENCES, SHAPES, TWIN, Fault
from tests.nets.faults.windows import with_gradient


class BiasByMean(Linear):
    """Averages the bias gradient over the batch."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            rows = dy.reshape(-1, dy.shape[-1])
            return dx, grads | ({"bias": rows.mean(axis=0)} if "bias" in grads else {})

        return y, backward


class BiasIgnored(Linear):
    """Returns zeros as the bias gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, {name: grad * (name != "bias") for name, grad in grads.items()}

        return y, backward


class BiasForgotten(Linear):
    """Leaves the bias out of the gradients."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0], {"weight": right(dy)[1]["weight"]})


class CentredInPlace(Linear):
    """Centres its input in place."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x -= x.mean() + 1
        return super().forward(x, context)


class Broadcasting(Linear):
    """Does not check shapes, so a wrong one gives NumPy's error."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x @ self.weight.T
        return super().forward(x, context)


class FirstRowForTheBias(Linear):
    """Uses only the first row for the bias gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, with_gradient(right, "bias", lambda dy: dy.reshape(-1, dy.shape[-1])[0].copy())


class BiasNotSummed(Linear):
    """Does not sum the bias gradient over the batch."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, with_gradient(right, "bias", lambda dy: dy.copy())


class WeightByMean(Linear):
    """Averages the weight gradient over the batch, although the loss has done so already."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, with_gradient(right, "weight", lambda dy: right(dy)[1]["weight"] / len(x))


class MovesOnItsWayBack(Linear):
    """Updates its weight in the backward pass, and computes dx with the updated weight."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            _, grads = right(dy)
            self.weight[...] -= 0.1 * grads["weight"]
            return right(dy)[0], grads

        return y, backward


PLANTED = [
    Fault(MovesOnItsWayBack, "arguments_are_left_untouched", None, "LIN-04"),
    Fault(BiasNotSummed, DIFFERENCES, None, "LIN-01"),
    Fault(BiasForgotten, DIFFERENCES, None, ""),
    Fault(CentredInPlace, DIFFERENCES, "input", ""),
    Fault(FirstRowForTheBias, DIFFERENCES, "bias", "LIN-01"),
    Fault(FirstRowForTheBias, TWIN, "bias", "LIN-01"),
    Fault(BiasNotSummed, SHAPES, None, "LIN-01"),
    Fault(WeightByMean, DIFFERENCES, "weight", "LIN-03"),
    Fault(WeightByMean, TWIN, "weight", "LIN-03"),
    Fault(WeightByMean, "gradients_of_samples_do_not_mix", "weight", "LIN-03"),
    Fault(BiasByMean, DIFFERENCES, "bias", "LIN-03"),
    Fault(BiasByMean, TWIN, "bias", "LIN-03"),
    Fault(BiasIgnored, DIFFERENCES, "bias", ""),
    Fault(BiasForgotten, SHAPES, None, ""),
    Fault(BiasForgotten, TWIN, None, ""),
    Fault(BiasForgotten, "backward_is_linear", None, ""),
    Fault(CentredInPlace, "arguments_are_left_untouched", None, ""),
    Fault(Broadcasting, "wrong_shapes_are_refused", None, ""),
]

BLIND: list[type] = [MovesOnItsWayBack, Broadcasting]
