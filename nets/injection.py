"""Faults by name: ``grad-scale:0.weight:1.0001@1500`` planted in a run, or refused where it would change nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Context, Key, Layer, Optimizer
from gradcheck.trajectory.check import Evaluation
from gradcheck.trajectory.engine import Batch, observed
from gradcheck.trajectory.faults import (
    Fault,
    GradientFault,
    GradientMean,
    GradientScale,
    GradientStale,
    GradientTranspose,
    GradientZero,
    LabelShift,
    OutputCast,
)
from nets.datasets.dataset import CLASSES, Dataset, Samples
from nets.faults import CorrectionWithoutPower, DropoutInEvaluation, MomentumLost, RateOfNextEpoch
from nets.layers.dropout import Dropout
from nets.optimizers import Adam
from nets.optimizers.clipping import Clipped
from nets.run import DTYPES, Program, Run

WRITTEN = re.compile(r"(?P<kind>[a-z-]*)(?::(?P<arguments>[^@]*))?(?:@(?P<begin>[0-9]{1,15}))?")
ELEMENT = re.compile(r"(?P<tensor>[^\[]+)\[(?P<index>[0-9]{1,9}(?:, ?[0-9]{1,9})*)\]")

# Samples whose gradients are looked at together, which bounds memory for convolutions.
TOGETHER = 100


class FaultKind(NamedTuple):
    """A kind of fault: how it is written, an example, what it does, and what makes one."""

    syntax: str
    example: str
    summary: str
    make: Callable[[Request], Fault]

    @property
    def name(self) -> str:
        """What comes before the arguments."""
        return self.syntax.partition(":")[0]


@dataclass(frozen=True)
class Request:
    """A fault that is asked for: its kind and arguments, for a run, from the step ``begin`` on."""

    text: str
    kind: FaultKind
    run: Run
    begin: int
    arguments: tuple[str, ...]

    def refuse(self, why: str) -> ValueError:
        """Return the error that says why there is no such fault."""
        return ValueError(f"{self.kind.name} {why}")

    def misspelt(self) -> ValueError:
        """Return the error that says how the fault is written."""
        return self.refuse(f"needs {self.kind.syntax}[@STEP], such as {self.kind.example}; got {self.text!r}")

    def tensor(self, name: str, among: str = "tensor", names: Iterable[str] = ()) -> str:
        """Return ``name`` if it is one of ``names``, by default those of the parameters."""
        known = list(names) or list(self.shapes())
        if name not in known:
            raise self.refuse(f"knows no {among} {name!r}; there are {', '.join(known)}")
        return name

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters by name."""
        return {name: array.shape for name, array in self.run.numpy_engine().params.items()}

    def require_memory(self) -> None:
        """Refuse a fault of what was kept of earlier steps in a run of one step."""
        if self.run.steps == 1:
            raise self.refuse("has no effect in the first step of a run, and this run has no other")


def parse_fault(text: str, run: Run) -> Fault:
    """Return the fault ``KIND[:ARGUMENTS][@STEP]`` for a run.

    Raises ValueError, in one line, for one that is not there or that would change nothing in this run.
    """
    request, fault = _parsed(text, run)
    if isinstance(fault, GradientFault) and not fault.recalls:
        _require_change(request, fault)
    return fault


def fault_again(text: str, program: Program, train_size: int, steps: int) -> Fault:
    """Return a fault that was planted in a run of so many images and steps; raises ValueError for one that was not."""
    nowhere = np.broadcast_to(np.uint8(0), (train_size, 28, 28))  # of any size, in one byte
    images = Samples(nowhere, np.broadcast_to(np.int64(0), (train_size,)))
    nothing = Dataset("none", "", 1, images)
    run = Run(program.preset, program.seed, program.dtype, nothing, images, images[:0], images, steps)
    return _parsed(text, run)[1]


def faults_of(run: Run) -> dict[str, Fault]:
    """Return one fault of every kind, but for those of gradients, that would change something in a run, by its text.

    Of a bias for which a mean is taken and of a layer that is cast it is the first.
    """
    engine = run.numpy_engine()
    bias = next((name for name in engine.params if name.rpartition(".")[2] == "bias"), "")
    layer = next(iter(dict(engine.model.children())), "")
    arguments = {"bias-mean": f":{bias}", "cast": f":{layer}"}
    faults = {}
    for kind in KINDS.values():
        text = f"{kind.name}{arguments.get(kind.name, '')}"
        if not kind.name.startswith("grad-"):
            with suppress(ValueError):
                faults[text] = parse_fault(text, run)
    return faults


def _parsed(text: str, run: Run) -> tuple[Request, Fault]:
    written = WRITTEN.fullmatch(text)
    name = written["kind"] if written else re.split("[:@]", text)[0]
    if name not in KINDS:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(KINDS)}")
    arguments = tuple(written["arguments"].split(":")) if written and written["arguments"] is not None else ()
    begin = int(written["begin"] or 0) if written else 0
    request = Request(text, KINDS[name], run, begin, arguments)
    if written is None or len(arguments) != request.kind.syntax.count(":"):
        raise request.misspelt()
    if begin >= run.steps:
        raise request.refuse(f"begins at step {begin:,}; the run has steps 0 to {run.steps - 1:,}")
    return request, request.kind.make(request)


def _require_change(request: Request, fault: GradientFault) -> None:
    """Refuse a fault that leaves the gradients of all training images as they are, at the first weights."""
    engine, size = request.run.numpy_engine(), _largest_batch(request)
    context = Context(training=True, key=Key(request.run.seed))
    for batch in _pieces(request.run):
        right = engine.step(*batch, context).grads
        wrong = fault.gradients(fault.begin, right, {}, size)
        if not np.array_equal(wrong[fault.tensor], right[fault.tensor], equal_nan=True):
            return
    raise request.refuse(f"has no effect: what it would change in {fault.tensor}'s gradient is 0 for every image")


def _pieces(run: Run) -> Iterator[Batch]:
    """Yield the training images, some at a time, to be learnt nothing from."""
    for begin in range(0, len(run.train), TOGETHER):
        samples = run.train[begin : begin + TOGETHER]
        yield Batch(run.inputs(samples), run.targets(samples.labels), 0.0)


def _largest_batch(request: Request) -> int:
    """Return the largest batch in the steps from which a fault begins."""
    run, steps = request.run, request.run.steps_per_epoch
    last = min(len(run.train) - (steps - 1) * run.preset.batch_size, run.preset.batch_size)
    sizes = [min(run.preset.batch_size, len(run.train))] * (steps - 1) + [last]
    return max((sizes[step % steps] for step in range(request.begin, min(run.steps, request.begin + 2))), default=1)


def _scale(request: Request) -> Fault:
    tensor, written = request.arguments
    try:
        factor = float(written)
    except ValueError:
        raise request.misspelt() from None
    if not math.isfinite(factor):
        raise request.misspelt()
    dtype = request.run.dtype
    if abs(factor) > float(np.finfo(dtype).max):
        raise request.refuse(f"needs a factor that fits {dtype}, got {factor!r}")
    if dtype.type(factor) == 1:
        raise request.refuse(f"has no effect: a factor of {factor!r} is 1 in {dtype}")
    return GradientScale(request.tensor(tensor), factor, begin=request.begin)


def _sign(request: Request) -> Fault:
    return GradientScale(request.tensor(request.arguments[0]), -1.0, begin=request.begin)


def _transpose(request: Request) -> Fault:
    tensor = request.tensor(request.arguments[0])
    square = [name for name, shape in request.shapes().items() if len(shape) >= 2 and shape[0] == shape[1] > 1]
    if tensor not in square:
        there = f"there are {', '.join(square)}" if square else f"{request.run.preset.name} has none"
        raise request.refuse(f"needs a square tensor, {tensor} has shape {request.shapes()[tensor]}; {there}")
    return GradientTranspose(tensor, begin=request.begin)


def _zero(request: Request) -> Fault:
    element = ELEMENT.fullmatch(request.arguments[0])
    if element is None:
        raise request.misspelt()
    tensor = request.tensor(element["tensor"])
    index, shape = tuple(map(int, element["index"].split(","))), request.shapes()[tensor]
    if len(index) != len(shape) or any(at >= extent for at, extent in zip(index, shape, strict=True)):
        raise request.refuse(f"needs an element of {tensor}, of shape {shape}, got {list(index)}")
    return GradientZero(tensor, index, begin=request.begin)


def _stale(request: Request) -> Fault:
    tensor = request.tensor(request.arguments[0])
    request.require_memory()
    return GradientStale(tensor, begin=request.begin)


def _mean(request: Request) -> Fault:
    biases = [name for name in request.shapes() if name.rpartition(".")[2] == "bias"]
    tensor = request.tensor(request.arguments[0], "bias", biases)
    if _largest_batch(request) == 1:
        raise request.refuse("has no effect at batch 1, where a sum and its mean are the same; --batch-size 2 has it")
    return GradientMean(tensor, begin=request.begin)


def _momentum(request: Request) -> Fault:
    rule = _rule(request.run.preset.optimizer)
    if not getattr(rule, "momentum", 0.0):
        raise request.refuse(f"needs an optimizer with momentum, {request.run.preset.name} has {type(rule).__name__}")
    request.require_memory()
    return MomentumLost(begin=request.begin)


def _adam(request: Request) -> Fault:
    rule = _rule(request.run.preset.optimizer)
    if not isinstance(rule, Adam):
        raise request.refuse(f"needs Adam, {request.run.preset.name} has {type(rule).__name__}")
    request.require_memory()
    return CorrectionWithoutPower(begin=request.begin)


def _rate(request: Request) -> Fault:
    run, per_epoch = request.run, request.run.steps_per_epoch
    schedule = run.preset.schedule
    fault = RateOfNextEpoch(schedule, per_epoch, begin=request.begin)
    first, last = request.begin // per_epoch, (run.steps - 1) // per_epoch
    if all(schedule(epoch) == schedule(epoch + 1) for epoch in range(first, last + 1)):
        raise request.refuse(f"has no effect: the rate of every epoch is {schedule(first):g}, and that of the next too")
    return fault


def _labels(request: Request) -> Fault:
    return LabelShift(CLASSES, begin=request.begin)


def _dropout(request: Request) -> Fault:
    run, every = request.run, Evaluation.every
    layers = {path: layer for path, layer in _walk(run.numpy_engine().model) if isinstance(layer, Dropout) and layer.p}
    if not layers:
        raise request.refuse(f"needs a network with dropout, {run.preset.name} has none")
    if run.steps <= -(-request.begin // every) * every:
        steps = f"the run evaluates before every {every}th step, and before none from {request.begin:,} on"
        raise request.refuse(f"has no effect: {steps}")
    return DropoutInEvaluation(layers, begin=request.begin)


def _cast(request: Request) -> Fault:
    run = request.run
    (batch,) = islice(_pieces(run), 1)
    taps = observed(run.numpy_engine(), batch, Context()).taps
    layers = [name.removeprefix("forward/").removesuffix(".output") for name in taps if name.endswith(".output")]
    layer = request.tensor(request.arguments[0], "layer", layers)
    (other,) = (dtype for dtype in DTYPES.values() if dtype != run.dtype)
    return OutputCast(layer, other, begin=request.begin)


def _rule(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer inside those that clip."""
    return _rule(optimizer.optimizer) if isinstance(optimizer, Clipped) else optimizer


def _walk(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    for name, child in layer.children():
        inner = f"{path}.{name}" if path else name
        yield inner, child
        yield from _walk(child, inner)


KINDS: dict[str, FaultKind] = {
    kind.name: kind
    for kind in (
        FaultKind("grad-scale:TENSOR:FACTOR", "grad-scale:0.weight:1.0001@1500", "a gradient is multiplied", _scale),
        FaultKind("grad-sign:TENSOR", "grad-sign:0.weight", "a gradient has the wrong sign", _sign),
        FaultKind("grad-transpose:TENSOR", "grad-transpose:2.weight", "a square gradient is transposed", _transpose),
        FaultKind("grad-zero:TENSOR[INDEX]", "grad-zero:0.weight[3,200]", "one element of a gradient is zero", _zero),
        FaultKind("grad-stale:TENSOR", "grad-stale:0.weight", "a gradient is that of the step before", _stale),
        FaultKind("bias-mean:TENSOR", "bias-mean:0.bias", "a bias has the mean over the batch for its gradient", _mean),
        FaultKind("momentum-lost", "momentum-lost@5", "the velocity is not kept from step to step", _momentum),
        FaultKind("adam-t", "adam-t@5", "Adam's bias correction takes every step for the first", _adam),
        FaultKind("lr-epoch", "lr-epoch@5", "the learning rate is that of the next epoch", _rate),
        FaultKind("label-shift", "label-shift@5", "every label is one class further", _labels),
        FaultKind("dropout-on", "dropout-on@100", "dropout is left on in evaluation", _dropout),
        FaultKind("cast:LAYER", "cast:0", "a layer's output is cast to the other precision", _cast),
    )
}
