"""The front door: check a layer, loss, optimizer, schedule, initialiser or function, native or anybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gradcheck.contract import Array, Case, Layer, Loss, Optimizer, Schedule
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import DTYPES, Mode, Outcome, Property, Settings
from gradcheck.report.results import Finding, Report
from gradcheck.report.snippets import snippet_of_call
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.function import PlainFunction
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss
from gradcheck.subjects.optimizer import ForeignOptimizer
from gradcheck.subjects.schedule import ForeignSchedule
from gradcheck.subjects.variations import AS_GIVEN, DEGENERATE, Variation, variations
from gradcheck.trials import EXAMPLES, Subject, drawn_cases, found_in, joined, properties_of, unless_torch_is_missing

if TYPE_CHECKING:
    import torch


VARIATIONS_EXPLAINED = 3  # failing variations of one object, with as many samples each, whose cause is sought


# What is asked of variations; the rest is asked of the case as given alone.
VARIED = (
    "gradients_agree_with_differences",
    "forward_agrees_with_twin",
    "gradients_agree_with_twin",
    "buffers_agree_with_twin",
    "gradients_match_their_tensors",
)


def check_layer(
    layer: object,
    *inputs: ArrayLike,
    twin: torch.nn.Module | None = None,
    params: Mapping[str, str] | None = None,
    grads: Mapping[str, str] | None = None,
    forward: str = "forward",
    backward: str = "backward",
    seed: int = 0,
    mode: Mode = "auto",
    max_evaluations: int | None = None,
    dtypes: Sequence[str] = DTYPES,
    claims: Iterable[Property] | None = None,
) -> Report:
    """Check a layer against finite differences, a torch ``twin`` if there is one, and itself.

    ``layer`` is a `Layer`, or any object with ``forward(*inputs)`` and ``backward(dy)`` that returns the gradients of
    the inputs; its parameters and their gradients are the items of its dicts or lists ``params`` and ``grads``, or
    where the caller says: ``params={"weight": "W"}, grads={"weight": "dW"}``, with paths such as ``params.W`` or
    ``W.T``. The twin's weights are set from those of the same name. From the inputs given, others are derived: batches
    and images of other sizes, zeros, ties, other parameters, modes and precisions. The object is never modified.

    ``mode`` is ``full`` (every element is perturbed), ``fast`` (random directions) or ``auto``; ``max_evaluations``
    bounds the forward calls by which single elements are perturbed, in each case (random directions, of which there are
    few, take what they need); ``claims`` are the properties to try, by default all.
    Raises `AdapterError` for an object that lacks what is needed.
    """
    _require_object("check_layer", "layer", layer)
    _require_module(twin)
    if not inputs:
        raise AdapterError("check_layer needs an input to try the layer on: check_layer(layer, x)")
    arrays = _arrays(inputs)
    settings = Settings(mode, max_evaluations, tuple(dtypes))
    subject: Any = layer
    if not isinstance(layer, Layer):
        subject = ForeignLayer(layer, params or {}, grads or {}, forward, backward)
        if twin is not None:
            subject = _with_buffers(subject, twin)
        remark = _unnamed(subject)
    elif len(arrays) != 1:
        raise AdapterError(f"a Layer has one input, got {len(arrays)}")
    else:
        remark = ""
    options = {"twin": twin, "params": params, "grads": grads, "forward": forward, "backward": backward}
    call = ("check_layer", (layer, *arrays), options)
    return _check(Case(subject, arrays, seed, twin=twin), settings, call, remark, claims)


def check_loss(
    loss: object,
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    twin: torch.nn.Module | None = None,
    forward: str = "forward",
    backward: str = "backward",
    seed: int = 0,
    mode: Mode = "auto",
    max_evaluations: int | None = None,
    dtypes: Sequence[str] = DTYPES,
    claims: Iterable[Property] | None = None,
) -> Report:
    """Check a loss as `check_layer` does a layer.

    ``loss`` is a `Loss`, or any object with ``forward(prediction, target) -> number`` and ``backward()`` that returns
    the gradient of the prediction.
    """
    _require_object("check_loss", "loss", loss)
    _require_module(twin)
    arrays = _arrays((prediction, target))
    if arrays[0].dtype.kind != "f":
        raise AdapterError(f"check_loss needs a floating-point prediction, got {arrays[0].dtype}")
    settings = Settings(mode, max_evaluations, tuple(dtypes))
    subject = loss if isinstance(loss, Loss) else ForeignLoss(loss, forward, backward)
    options = {"twin": twin, "forward": forward, "backward": backward}
    call = ("check_loss", (loss, *arrays), options)
    return _check(Case(subject, arrays, seed, twin=twin), settings, call, claims=claims)


def check_optimizer(
    optimizer: object,
    twin: Callable[[list[Any]], Any] | None = None,
    steps: int = 20,
    *,
    params: Iterable[ArrayLike] | Mapping[str, ArrayLike] | None = None,
    lr: str = "lr",
    seed: int = 0,
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Check an optimizer against torch's over ``steps`` steps of several tensors, the rate changed half-way.

    ``optimizer`` is an `Optimizer`, or any object with ``step(params, grads)``, which moves the arrays of the dict
    ``params`` in place, and its rate in the attribute that ``lr`` names. ``twin(list of torch parameters)`` returns the
    torch optimizer with the same hyper-parameters. ``params`` are the tensors to move, in a dict if their names matter:
    by default four, of different shapes.
    """
    if steps < 1:
        raise ValueError(f"check_optimizer needs at least 1 step, got {steps}")
    _require_object("check_optimizer", "optimizer", optimizer)
    subject = optimizer
    if isinstance(optimizer, Optimizer):
        _refuse_twin(optimizer, twin)
    else:
        if not callable(twin):
            came = "" if twin is None else f", got a {type(twin).__name__}"
            raise AdapterError(
                f"check_optimizer needs a twin: a function from a list of torch parameters to a torch optimizer{came}"
            )
        subject = ForeignOptimizer(
            optimizer=optimizer, make_twin=twin, rate=lr, names=tuple(params) if isinstance(params, Mapping) else ()
        )
    rng = stream("parameters to move", seed)
    shapes: tuple[tuple[int, ...], ...] = ((3, 2), (4,), (2, 1, 3), ())
    given = params.values() if isinstance(params, Mapping) else params
    drawn = (np.asarray(rng.standard_normal(shape)) for shape in shapes)
    tensors = tuple(drawn) if given is None else _arrays(given)
    settings = Settings(dtypes=tuple(dtypes), steps=steps)
    options = {"twin": twin, "steps": steps, "lr": lr, "params": _given(params, tensors)}
    return _check(Case(subject, tensors, seed), settings, ("check_optimizer", (optimizer,), options))


def check_schedule(
    schedule: object,
    twin: Callable[[Any], Any] | None = None,
    *,
    base_lr: float = 0.1,
    epochs: int = 20,
    seed: int = 0,
) -> Report:
    """Check a learning-rate schedule against torch's over ``epochs`` epochs.

    ``schedule`` is a `Schedule`, or anything that is called with an epoch 0, 1, ... and returns its rate; if it has a
    second argument, named ``history`` or without a default, that is the losses of the epochs before.
    ``twin(optimizer)`` returns the torch scheduler; the optimizer's initial rate is ``base_lr``.
    """
    if epochs < 1:
        raise ValueError(f"check_schedule needs at least 1 epoch, got {epochs}")
    subject = schedule
    if isinstance(schedule, Schedule):
        _refuse_twin(schedule, twin)
    else:
        if not callable(schedule):
            raise AdapterError(f"a schedule is called with an epoch; {type(schedule).__name__} cannot be called")
        if not callable(twin):
            came = "" if twin is None else f", got a {type(twin).__name__}"
            raise AdapterError(
                f"check_schedule needs a twin: a function from a torch optimizer to a torch scheduler{came}"
            )
        subject = ForeignSchedule(base_lr, schedule, twin)
    options = {"twin": twin, "base_lr": base_lr, "epochs": epochs}
    return _check(Case(subject, (), seed), Settings(steps=epochs), ("check_schedule", (schedule,), options))


def check_gradients(
    f: Callable[..., Array],
    inputs: Sequence[ArrayLike],
    vjp: Callable[[tuple[Array, ...], Array], Sequence[Array]],
    *,
    seed: int = 0,
    mode: Mode = "auto",
    max_evaluations: int | None = None,
) -> Report:
    """Check ``vjp(inputs, dy)``, which returns one gradient per input given dy = dLoss/d(output)."""
    if isinstance(inputs, np.ndarray):
        raise AdapterError("check_gradients needs a tuple of inputs, got one array: write (x,)")
    arrays = _arrays(inputs)
    if not any(array.dtype.kind == "f" for array in arrays):
        raise AdapterError("check_gradients needs a floating-point input; no other has a gradient")
    settings = Settings(mode, max_evaluations)
    return _check(Case(PlainFunction(f, vjp), arrays, seed), settings, ("check_gradients", (f, arrays, vjp), {}))


def check_class(
    subject: Subject,
    *,
    claims: Iterable[Property] | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    settings: Settings = Settings(),
) -> Report:
    """Try properties (by default all) of a class on ``examples`` cases each that Hypothesis draws from its ``cases()``.

    All are tried and the smallest failing one is reported: shrinking would take longer than everything else.
    """
    name, tried = subject.__name__, properties_of(subject) if claims is None else tuple(claims)
    findings: list[Finding] = []
    before: list[Case] = []
    evaluations = 0
    for claim in tried:
        try:
            cases = drawn_cases(subject, examples, seed)
        except ImportError:
            raise  # a missing library is nobody's fault here
        except Exception as error:  # noqa: BLE001  the strategy is the subject's own, and so is what it raises
            message = f"cases() raises {type(error).__name__}: {error}"
            findings.append(Finding(name, claim.__name__, Verdict.FAIL, 0, message=message))
            continue
        for case, last in zip(cases, before, strict=False):  # there are none before the first claim
            case.found.update(last.found)  # what was computed, and not what may have been spoilt
        if (finding := found_in(name, claim, cases, settings)) is not None:
            findings.append(finding)
        evaluations += sum(case.tally.evaluations for case in cases)
        before = cases
    return Report(name, tuple(findings), evaluations, seed, settings)


def check_variations(
    case: Case, *, claims: Iterable[Property] | None = None, settings: Settings = Settings()
) -> Report:
    """Try properties (by default all) of a case as given and of its variations."""
    remark = _unnamed(case.subject) if isinstance(case.subject, ForeignLayer) else ""
    return _check(case, settings, None, remark, claims)


def _samples(case: Case) -> tuple[int, ...]:
    return case.inputs[0].shape[:1] if case.inputs else ()


def _require_object(who: str, what: str, value: object) -> None:
    if isinstance(value, type):
        raise AdapterError(f"{who} needs a {what}, got the class {value.__name__}: make one")


def _refuse_twin(subject: Optimizer | Schedule, twin: object) -> None:
    if twin is not None:
        raise AdapterError(f"{type(subject).__name__} brings its own twin, and takes no other")


def _require_module(twin: object) -> None:
    if isinstance(twin, type):
        raise AdapterError(f"twin is a torch.nn.Module, got the class {twin.__name__}: write {twin.__name__}(...)")
    if twin is not None and not (callable(twin) and hasattr(twin, "named_parameters")):
        raise AdapterError(f"twin is a torch.nn.Module, got a {type(twin).__name__}")


def _given(
    params: Iterable[ArrayLike] | Mapping[str, ArrayLike] | None, tensors: tuple[Array, ...]
) -> dict[str, Array] | list[Array] | None:
    if isinstance(params, Mapping):
        return dict(zip(params, tensors, strict=True))
    return None if params is None else list(tensors)


def _arrays(values: Iterable[ArrayLike]) -> tuple[Array, ...]:
    try:
        arrays = tuple(np.array(value) for value in values)
    except ValueError as error:
        raise AdapterError(f"an input is no array: {error}") from error
    for array in arrays:
        if array.dtype.kind not in "fiub":
            raise AdapterError(f"inputs are arrays of numbers, got one of {array.dtype}")
        if array.dtype.kind == "f" and array.dtype not in (np.float32, np.float64):
            raise AdapterError(f"inputs are float64 or float32, got {array.dtype}: cast them")
    return arrays


def _with_buffers(layer: ForeignLayer, twin: torch.nn.Module) -> ForeignLayer:
    """Return the layer with those of its arrays named that are the twin's buffers, by the same name and shape."""
    state = {name: tuple(buffer.shape) for name, buffer in twin.named_buffers()}
    found = {
        name: name
        for name, shape in state.items()
        if name not in layer.params and np.shape(getattr(layer.layer, name, ())) == shape and shape
    }
    params = {**layer.params, **found}
    return replace(layer, params=params, untrained=tuple(name for name in params if name in state))


def _unnamed(layer: ForeignLayer) -> str:
    names = layer.unnamed_arrays() if not layer.params else []
    return f"{', '.join(names)}: not checked; name parameters with params= and grads=" if names else ""


@np.errstate(all="ignore")  # variations of extreme inputs overflow
def _check(
    case: Case,
    settings: Settings,
    call: tuple[str, tuple[Any, ...], dict[str, Any]] | None,
    remark: str = "",
    claims: Iterable[Property] | None = None,
) -> Report:
    tried = properties_of(case.subject) if claims is None else tuple(claims)
    name = getattr(case.subject, "name", type(case.subject).__name__)
    found: dict[str, list[tuple[Variation, Outcome]]] = {}
    for variation in variations(case):
        for claim in tried:
            if not variation.name.startswith(AS_GIVEN) and claim.__name__ not in VARIED:
                continue
            outcomes = found.setdefault(claim.__name__, [])
            # Of as many samples each: another number of them tells the batch size from whatever else is as large.
            explained = sum(bool(o.causes) for v, o in outcomes if _samples(v.case) == _samples(variation.case))
            explain = explained < VARIATIONS_EXPLAINED and variation.name not in DEGENERATE
            outcome = unless_torch_is_missing(variation.case, claim, replace(settings, explain=explain))
            if outcome is not None:
                outcomes.append((variation, outcome))
    findings = [joined(name, claim, outcomes) for claim, outcomes in found.items() if outcomes]
    if remark and findings:
        findings[0] = replace(findings[0], remarks=(*findings[0].remarks, remark))
    again = None
    if call is not None:
        function, arguments, options = call

        def again() -> str:
            return snippet_of_call(function, arguments, options, case.seed, settings)

    return Report(name, tuple(findings), case.tally.evaluations, case.seed, settings, again)
