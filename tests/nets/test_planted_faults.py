"""Real mistakes, planted one at a time: each is caught, in the right property and tensor."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradcheck.agreement import Verdict
from gradcheck.checks import Subject, check_class, properties_of
from gradcheck.collection import CONTRACTS
from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, LossBackward, untapped
from gradcheck.properties import PROPERTIES
from gradcheck.results import Finding, GradientMismatch
from nets.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
)
from nets.layers.windows import Windows
from nets.losses import BCELoss, CrossEntropyLoss, MSELoss, QuadraticCost
from nets.optimizers import SGD, Adam
from nets.schedules import MultiStepLR
from tests.nets.faults import initialisers, schedules

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# A mistake usually shows in more than one property; these are the ones that must see it.
DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"
BUFFERS = "buffers_agree_with_twin"


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
    """Gives the bias no gradient at all."""

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
    """Centres its input where it stands."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x -= x.mean() + 1
        return super().forward(x, context)


class SigmoidOfActivation(Sigmoid):
    """Applies sigmoid' to the output, z, in place of y (1 - y): sigmoid'(z) of the wrong z."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        again, _ = super().forward(y)
        return y, lambda dy: (dy * again * (1 - again), {})


class SigmoidOfPreActivation(Sigmoid):
    """Uses the derivative x (1 - x), which expects the output, on the pre-activation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * x * (1 - x), {})


class LeakingBackward(ReLU):
    """Lets the gradient of negative inputs pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy.copy(), {})


class LeakingBothWays(ReLU):
    """Lets negative inputs pass, forward and backward alike: no difference can show that."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return x.copy(), lambda dy: (dy.copy(), {})


class SlopeOneAtZero(ReLU):
    """Takes the slope at exactly zero to be 1, where torch takes 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (x >= 0), {})


class ViewOfInput(Flatten):
    """Returns a view of its input."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, backward = super().forward(x, context)
        return x.reshape(len(x), -1), backward


class ConstantBackward(Flatten):
    """Ignores dy."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda _: (np.ones_like(x), {})


class AlwaysDouble(Flatten):
    """Returns float64 whatever it is given."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        return y.astype(np.float64), backward


class RemainderAtTheTop(Conv2d):
    """Gives the rows that no window holds, where the stride does not divide, to the top of the image."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        windows = self._windows()
        rest = (x.shape[2] + sum(windows.padding[0]) - windows.reach()[0]) % windows.stride[0]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return np.roll(dx, rest, axis=2), grads

        return y, backward


class FancyWindows(Windows):
    """Adds by index arrays, where += keeps one of several terms for the same pixel."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        rows, columns = dcolumns.shape[3:]
        dpadded = np.zeros((*dcolumns.shape[:2], *self._spaces(height, width)), dcolumns.dtype)
        pixels = np.indices(dpadded.shape[2:])
        held = [pixels[(slice(None), *place)] for place in self._places(rows, columns)]
        vertical, horizontal = np.stack(held, axis=1)
        dpadded[:, :, vertical, horizontal] += dcolumns
        return dpadded[self._image(height, width)].copy()


class UndilatedWindows(Windows):
    """Puts the gradient where a kernel without dilation would look."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        return Windows.images(replace(self, dilation=(1, 1)), dcolumns, height, width)


def recast(windows: Windows, kind: type[Windows]) -> Windows:
    """Return the same windows as another class of them."""
    return kind(**{spec.name: getattr(windows, spec.name) for spec in fields(windows)})


class OverlapsDropped(Conv2d):
    """Lets a pixel have the gradient of one window only."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FancyWindows)


class PooledOverlapsDropped(MaxPool2d):
    """Lets a pixel have the gradient of one window only."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FancyWindows)


class DilationForgotten(Conv2d):
    """Ignores dilation on the way back."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), UndilatedWindows)


class BiasOverChannelsLast(Conv2d):
    """Sums the bias gradient as if the channels came last."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | ({"bias": dy.reshape(-1, dy.shape[1]).sum(axis=0)} if "bias" in grads else {})

        return y, backward


class WeightByMean(Conv2d):
    """Averages the weight gradient over the batch."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": grads["weight"] / len(x)}

        return y, backward


class GroupsInterleaved(Conv2d):
    """Deals the input channels out to the groups in turn, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        dealt = np.arange(x.shape[1]).reshape(-1, self.groups).T.ravel()
        y, right = super().forward(x[:, dealt], context)
        return y, lambda dy: (right(dy)[0][:, np.argsort(dealt)], right(dy)[1])


class KernelFlipped(Conv2d):
    """Convolves as mathematicians do, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        weight = self.weight[:, :, ::-1, ::-1]
        plain = Conv2d(weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        y, right = plain.forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": grads["weight"][:, :, ::-1, ::-1].copy()}

        return y, backward


class PaddedWithZero(MaxPool2d):
    """Lets the padding win over negative pixels."""

    def _columns(self, x: Array) -> Array:
        return self._windows().columns(x, fill=0)


class EveryTiedMaximum(MaxPool2d):
    """Gives the full gradient to all of several maxima."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        mask = self._columns(x) == y[:, :, None]
        return y, lambda dy: (self._windows().images(mask * dy[:, :, None], *x.shape[2:]), {})


class NormalisedByUnbiased(BatchNorm2d):
    """Divides by the unbiased deviation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        if not context.training:
            return y, right
        variance = x.var(axis=(0, 2, 3), keepdims=True)
        count = x.size / x.shape[1]
        share = np.sqrt((variance + self.eps) / (variance * (count / (count - 1)) + self.eps))
        bias = 0 if self.bias is None else self.bias[:, None, None]
        return (y - bias) * share + bias, right


class PerPixelStatistics(BatchNorm2d):
    """Takes every pixel for a feature of its own, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        pixels, features = x.shape[2] * x.shape[3], x.shape[1]

        def each(array: Array | None) -> Any:  # noqa: ANN401  None for None
            return None if array is None else np.repeat(array, pixels)

        weight, bias, mean, variance = map(each, (self.weight, self.bias, self.running_mean, self.running_var))
        rest = (self.num_batches_tracked, self.eps, self.momentum, features * pixels)
        flat = BatchNorm1d(weight, bias, mean, variance, *rest)
        y, right = flat.forward(x.reshape(len(x), -1), Context(context.training))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy.reshape(len(x), -1))
            return dx.reshape(x.shape), {k: grad.reshape(features, pixels).sum(axis=1) for k, grad in grads.items()}

        return y.reshape(x.shape), backward


class RetoldBatchNorm(BatchNorm2d):
    """Batch normalisation with the gradient of its input told anew: right, but for what subclasses get wrong."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        """Return the factors of the sums of dy and of dy n."""
        count = x.size // x.shape[1]
        return (1 / count, 1 / count) if training else (0, 0)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        axes, each = (0, 2, 3), (slice(None), None, None)
        mean, variance = (x.mean(axis=axes), x.var(axis=axes))
        running = None if context.training else self._running()
        if running is not None:
            mean, variance = running
        deviation = np.sqrt(variance + self.eps)
        normal = (x - mean[each]) / deviation[each]
        of_dy, of_dyn = self.terms(x, training=running is None)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            g = dy if self.weight is None else dy * self.weight[each]
            sums, along = (a.sum(axis=axes)[each] for a in (g, g * normal))
            return (g - of_dy * sums - normal * of_dyn * along) / deviation[each], right(dy)[1]

        return y, backward


class DividesByBatch(RetoldBatchNorm):
    """Averages over the batch where it should over its pixels, too."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        return (1 / len(x), 1 / len(x)) if training else (0, 0)


class TrainingFormulaInEvaluation(RetoldBatchNorm):
    """Differentiates running statistics as if they came from the batch."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        return super().terms(x, training=True)


class WithoutTheMean(RetoldBatchNorm):
    """Takes the mean for a constant."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        return 0, super().terms(x, training=training)[1]


class BiasedRunningVariance(BatchNorm1d):
    """Keeps the variance that it normalises by, not the unbiased one."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        result = super().forward(x, context)
        if context.training and self.num_batches_tracked is not None and self.running_var is not None:
            share = 1 / (int(self.num_batches_tracked) + 1) if self.momentum is None else self.momentum
            variance = x.var(axis=(0, *range(2, x.ndim)))
            context.update("running_var", (1 - share) * self.running_var + share * variance)
        return result


class LearnsInEvaluation(BatchNorm1d):
    """Moves its running mean in evaluation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if self.running_mean is not None:
            context.update("running_mean", 0.9 * self.running_mean + 0.1 * x.mean(axis=(0, *range(2, x.ndim))))
        return super().forward(x, context)


class CountsInPlace(BatchNorm1d):
    """Counts batches where the count stands, so that a forward pass is not pure."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked[...] += 1
        return super().forward(x, context)


class CountsInFloats(BatchNorm1d):
    """Counts batches in floating point."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        result = super().forward(x, context)
        if self.num_batches_tracked is not None:
            context.update("num_batches_tracked", np.asarray(self.num_batches_tracked + 1.0))
        return result


class Misnamed(BatchNorm1d):
    """Proposes a buffer that it does not have."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if self.running_mean is not None:
            context.update("mean", self.running_mean.copy())
        return super().forward(x, context)


class MaskForgotten(Dropout):
    """Lets the gradient of dropped elements pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        scale = 1 / (1 - self.p) if context.training and self.p < 1 else 1.0
        return y, lambda dy: (dy * scale, {})


class ScaleForgotten(Dropout):
    """Drops the gradient, and does not scale what is left."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(right(np.ones_like(dy))[0] != 0, dy, 0), {})


class NotInverted(Dropout):
    """Scales in evaluation in place of in training, as the paper does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        share = 1 - self.p if self.p < 1 else 1.0
        y, right = super().forward(x, context)
        return y * share, lambda dy: (right(dy)[0] * share, {})


class AlwaysAHalf(Dropout):
    """Drops half, whatever it is asked."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout(0.5).forward(x, context)


class OneKeyForAll(Sequential):
    """Gives every layer the same key, so that all drop the same elements."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, first = self.layers[0].forward(x, context)
        y, second = self.layers[1].forward(y, context)
        return y, lambda dy: (first(second(dy)[0])[0], {})

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases

        return cases(st.just(cls((Dropout(0.5), Dropout(0.25)))), arrays((3, 5)))


class CachingSigmoid(Sigmoid):
    """Keeps its output on the class, so that a second call overwrites what the first pullback needs."""

    cache: list[Array] = []  # noqa: RUF012  the mistake

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        self.cache[:] = [y]
        return y, lambda dy: (dy * self.cache[0] * (1 - self.cache[0]), {})


class TapDependent(Sigmoid):
    """Computes something else while it is observed."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        return (y if context.tap is untapped else y * (1 + 1e-9)), backward


class ReadsItsMemory(Sigmoid):
    """Takes the elements of dy in the order of its memory."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: right(dy.ravel(order="K").reshape(dy.shape))


class ScaledByBatch(Sigmoid):
    """Divides the gradient by the number of samples, which is no business of a layer."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0] / len(x), {})


class Overflowing(Sigmoid):
    """The textbook formula of e^x over e^x + 1, NaN where e^x overflows."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        with np.errstate(over="ignore", invalid="ignore"):
            y = np.exp(x) / (np.exp(x) + 1)
        return y, lambda dy: (dy * y * (1 - y), {})


class Truncated(LeakyReLU):
    """Makes its output of the type of its input, which for pixels are integers."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        out = np.zeros_like(x)
        out[...] = y.astype(x.dtype)
        return out, right


class NarrowInside(Tanh):
    """Squares in half precision on the way back if it is given single."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        if x.dtype != np.float32:
            return y, right
        return y, lambda dy: (dy * (1 - (y.astype(np.float16) ** 2).astype(np.float32)), {})


class Broadcasting(Linear):
    """Checks no shape, and so says nothing of a wrong one but what NumPy says."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x @ self.weight.T
        return super().forward(x, context)


@dataclass(frozen=True, eq=False)
class OverwritesItsTap(CrossEntropyLoss):
    """Changes in place what it has shown to the tap."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        shown = context.tapped("loss", "shifted", prediction - 1)
        shown += 1
        return super().forward(shown, target, context)


@dataclass(frozen=True, eq=False)
class WithoutBatchSize(CrossEntropyLoss):
    """Reports the mean, and descends the sum."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return value, lambda dvalue: right(dvalue) * len(prediction)


@dataclass(frozen=True, eq=False)
class MeanOverRows(MSELoss):
    """Averages over the batch only, consistently."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        share = prediction.size / len(prediction)
        return value * share, lambda dvalue: right(dvalue) * share


@dataclass(frozen=True, eq=False)
class WithoutDvalue(QuadraticCost):
    """Forgets the chain rule's factor."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return value, lambda dvalue: right(np.ones_like(dvalue))


@dataclass(frozen=True, eq=False)
class SoftenedDenominator(BCELoss):
    """Guards the division in the gradient, but not in the loss."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        guarded = prediction * (1 - prediction) + 1e-7
        return value, lambda dvalue: dvalue * (prediction - target) / guarded / prediction.size


class StaleRate(SGD):
    """Keeps the first learning rate it was given."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        self.state.setdefault("lr", np.asarray(lr))
        super().step(params, grads, float(self.state["lr"]))


class MovesWithoutGradient(SGD):
    """Shrinks a parameter that has no gradient in this step."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, grads, lr)
        for name in params.keys() - grads.keys():
            params[name] *= 1 - lr


class RateInTheVelocity(SGD):
    """Folds the learning rate into the velocity: the same at a constant rate, and only there."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, {name: lr * grad for name, grad in grads.items()}, 1.0)


class DecayWithMomentumOnly(SGD):
    """Forgets weight decay on the path without momentum."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        decay = self.weight_decay
        self.weight_decay = decay if self.momentum else 0.0
        super().step(params, grads, lr)
        self.weight_decay = decay


class WithoutThePower(Adam):
    """Corrects the bias of the moments without the power t: right in the first step, and in no other."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name in grads:
            if f"step/{name}" in self.state:
                self.state[f"step/{name}"][...] = 0
        super().step(params, grads, lr)


class OneCountForAll(Adam):
    """Counts steps for all tensors together, also those that had no gradient."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, grads, lr)
        for name in params.keys() - grads.keys():
            if f"step/{name}" in self.state:
                self.state[f"step/{name}"] += 1


class DecaysItsGradients(SGD):
    """Adds weight decay to the gradients where they stand."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            grad += 0.1 * params[name]
        super().step(params, grads, lr)


class RemembersItsGradients(SGD):
    """Keeps the first gradient itself, not a copy, as its velocity."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            velocity = self.state.setdefault(f"momentum_buffer/{name}", grad)
            params[name] -= lr * (grad + 0.5 * velocity)


class Rebinds(SGD):
    """Puts new arrays into the dict in place of moving those that layers hold."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            params[name] = params[name] - lr * grad


class OneEpochLate(MultiStepLR):
    """Reaches a milestone one epoch late."""

    def __call__(self, epoch: int, history: object = ()) -> float:
        return super().__call__(epoch - 1)


PLANTED: list[tuple[Subject, str, str | None]] = [
    (BiasByMean, DIFFERENCES, "bias"),
    (BiasByMean, TWIN, "bias"),
    (BiasIgnored, DIFFERENCES, "bias"),
    (BiasForgotten, "gradients_match_their_tensors", None),
    (BiasForgotten, TWIN, None),
    (BiasForgotten, "backward_is_linear", None),
    (CentredInPlace, "arguments_are_left_untouched", None),
    (SigmoidOfActivation, DIFFERENCES, "input"),
    (SigmoidOfPreActivation, DIFFERENCES, "input"),
    (LeakingBackward, DIFFERENCES, "input"),
    (LeakingBackward, TWIN, "input"),
    (LeakingBothWays, FORWARD, "output"),
    (LeakingBothWays, TWIN, "input"),
    (SlopeOneAtZero, TWIN, "input"),
    (ViewOfInput, "results_own_their_memory", None),
    (ConstantBackward, "backward_is_linear", "input"),
    (AlwaysDouble, "gradients_match_their_tensors", None),
    (RemainderAtTheTop, DIFFERENCES, "input"),
    (RemainderAtTheTop, TWIN, "input"),
    (OverlapsDropped, DIFFERENCES, "input"),
    (OverlapsDropped, TWIN, "input"),
    (PooledOverlapsDropped, DIFFERENCES, "input"),
    (PooledOverlapsDropped, TWIN, "input"),
    (DilationForgotten, DIFFERENCES, "input"),
    (DilationForgotten, TWIN, "input"),
    (BiasOverChannelsLast, DIFFERENCES, "bias"),
    (BiasOverChannelsLast, TWIN, "bias"),
    (WeightByMean, DIFFERENCES, "weight"),
    (WeightByMean, TWIN, "weight"),
    (GroupsInterleaved, FORWARD, "output"),
    (KernelFlipped, FORWARD, "output"),
    (PaddedWithZero, FORWARD, "output"),
    (EveryTiedMaximum, TWIN, "input"),
    (EveryTiedMaximum, DIFFERENCES, "input"),
    (NormalisedByUnbiased, FORWARD, "output"),
    (PerPixelStatistics, FORWARD, "output"),
    (DividesByBatch, DIFFERENCES, "input"),
    (DividesByBatch, TWIN, "input"),
    (TrainingFormulaInEvaluation, DIFFERENCES, "input"),
    (TrainingFormulaInEvaluation, TWIN, "input"),
    (WithoutTheMean, DIFFERENCES, "input"),
    (WithoutTheMean, TWIN, "input"),
    (BiasedRunningVariance, BUFFERS, "running_var"),
    (LearnsInEvaluation, BUFFERS, "running_mean"),
    (CountsInPlace, BUFFERS, None),
    (CountsInFloats, BUFFERS, None),
    (Misnamed, BUFFERS, None),
    (MaskForgotten, DIFFERENCES, "input"),
    (MaskForgotten, TWIN, "input"),
    (ScaleForgotten, DIFFERENCES, "input"),
    (ScaleForgotten, TWIN, "input"),
    (NotInverted, FORWARD, "output"),
    (AlwaysAHalf, FORWARD, "output"),
    (OneKeyForAll, FORWARD, "output"),
    (CachingSigmoid, "calls_do_not_interfere", None),
    (TapDependent, "taps_do_not_change_results", None),
    (OverwritesItsTap, "taps_do_not_change_results", None),
    (WithoutBatchSize, DIFFERENCES, "prediction"),
    (WithoutBatchSize, TWIN, "prediction"),
    (MeanOverRows, FORWARD, "output"),
    (WithoutDvalue, DIFFERENCES, "prediction"),
    (WithoutDvalue, "backward_is_linear", "prediction"),
    (SoftenedDenominator, DIFFERENCES, "prediction"),
    (StaleRate, "updates_agree_with_twin", None),
    (MovesWithoutGradient, "missing_gradients_are_skipped", None),
    (RateInTheVelocity, "updates_agree_with_twin", None),
    (DecayWithMomentumOnly, "updates_agree_with_twin", None),
    (WithoutThePower, "updates_agree_with_twin", None),
    (OneCountForAll, "missing_gradients_are_skipped", None),
    (OneEpochLate, "rates_agree_with_twin", "lr"),
    (DecaysItsGradients, "gradients_are_left_untouched", None),
    (RemembersItsGradients, "gradients_are_left_untouched", None),
    (Rebinds, "parameters_are_moved_in_place", None),
    (ReadsItsMemory, "results_do_not_depend_on_memory_layout", "input"),
    (ScaledByBatch, "gradients_of_samples_do_not_mix", "input"),
    (Overflowing, "extreme_values_stay_finite", "output"),
    (Truncated, "integers_are_taken_as_numbers", "output"),
    (NarrowInside, "precisions_agree", "input"),
    (Broadcasting, "wrong_shapes_are_refused", None),
]


def result_of(subject: Subject, name: str) -> Finding:
    """Return what one property finds in a class."""
    (finding,) = check_class(
        subject, claims=[claim for claim in properties_of(subject) if claim.__name__ == name]
    ).findings
    return finding


@pytest.mark.parametrize(
    ("subject", "claim", "tensor"), PLANTED, ids=[f"{subject.__name__}-{claim}" for subject, claim, _ in PLANTED]
)
def test_a_planted_fault_is_caught(subject: Subject, claim: str, tensor: str | None) -> None:
    report = check_class(subject, claims=[each for each in properties_of(subject) if each.__name__ == claim])
    (result,) = report.findings
    assert result.verdict is Verdict.FAIL
    if tensor is not None:
        assert result.worst is not None
        assert result.worst.tensor == tensor
        assert result.worst.ratio > 1
    with pytest.raises(GradientMismatch, match=f"{subject.__name__}: {claim.replace('_', ' ')}: FAIL") as caught:
        report.raise_if_failed()
    assert caught.value.report is report


def test_what_differences_cannot_see_is_left_to_the_twin() -> None:
    consistent = (GroupsInterleaved, KernelFlipped, PaddedWithZero, PerPixelStatistics, NotInverted, AlwaysAHalf)
    for subject in (LeakingBothWays, MeanOverRows, SlopeOneAtZero, OneKeyForAll, *consistent):
        assert result_of(subject, DIFFERENCES).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (CountsInPlace, "num_batches_tracked is changed by the call"),
        (CountsInFloats, "num_batches_tracked is () int64, its new value () float64"),
        (Misnamed, "a new mean is proposed, which is no buffer"),
    ],
)
def test_what_is_wrong_with_a_buffer_is_said(subject: Subject, message: str) -> None:
    assert result_of(subject, BUFFERS).message == message


def test_what_is_told_anew_is_right_but_for_its_fault() -> None:
    for claim in (DIFFERENCES, TWIN, FORWARD):
        assert result_of(RetoldBatchNorm, claim).verdict is Verdict.PASS


def test_every_property_has_a_planted_fault() -> None:
    elsewhere = (*schedules.PLANTED, *initialisers.PLANTED)
    caught = {claim for _, claim, _ in PLANTED} | {claim for _, claim, *_ in elsewhere}
    native = (properties for kind, properties in PROPERTIES.items() if issubclass(kind, CONTRACTS))
    assert caught == {claim.__name__ for properties in native for claim in properties}


def test_a_schedule_that_remembers_is_caught() -> None:
    calls: list[int] = []

    class Compounding(MultiStepLR):
        def __call__(self, epoch: int, history: object = ()) -> float:
            calls.append(epoch)
            return super().__call__(epoch) * 0.9 ** len(calls)

    assert result_of(Compounding, "rates_do_not_depend_on_earlier_calls").verdict is Verdict.FAIL


def test_an_allowance_too_wide_to_tell_is_inconclusive() -> None:
    class Noisy(Linear):
        """Adds what is zero but for rounding, magnified until nothing can be told."""

        def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
            y, backward = super().forward(x * 1.1 / 1.1, context)
            zero = np.asarray((x * 1.1 / 1.1 - x).sum() + 1e-17)
            return y + zero * 1e17, lambda dy: backward(dy)

    result = result_of(Noisy, FORWARD)
    assert result.inconclusive > result.examples / 2


def test_a_strategy_that_raises_is_a_failure_of_its_class() -> None:
    class Undrawable(Flatten):
        @classmethod
        def cases(cls) -> SearchStrategy[Case]:
            raise LookupError("no idea")

    result = result_of(Undrawable, DIFFERENCES)
    assert (result.verdict, result.message) == (Verdict.FAIL, "cases() raises LookupError: no idea")


def test_what_a_subject_raises_is_its_failure() -> None:
    class Broken(Flatten):
        def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
            raise RuntimeError("out of order")

    result = result_of(Broken, DIFFERENCES)
    assert (result.verdict, result.message) == (Verdict.FAIL, "raises RuntimeError: out of order")
