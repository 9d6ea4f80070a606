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
from gradcheck.properties.rates import FOLLOWING, Extent, extent_of
from gradcheck.report.results import Finding, Report
from gradcheck.report.snippets import snippet_of_call
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.function import PlainFunction
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss
from gradcheck.subjects.optimizer_reading import drawn_parameters, read_optimizer
from gradcheck.subjects.references import optimizer_with_reference, schedule_with_reference
from gradcheck.subjects.variations import AS_GIVEN, DEGENERATE, Variation, variations
from gradcheck.trials import EXAMPLES, Subject, drawn_cases, found_in, joined, properties_of, unless_torch_is_missing

if TYPE_CHECKING:
    import torch


VARIATIONS_EXPLAINED = 3  # failing variations of one object whose cause is sought


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
    twin_params: Mapping[str, str] | None = None,
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
    ``W.T``. The twin's weights are set from those of the same name, or where ``twin_params`` says: with
    ``{"Wi": "weight_ih_l0[0:3].T"}`` Wi is a part of a twin's weight. Of several outputs of a twin, the first of the
    layer's own shape is compared. From the inputs given, others are derived: batches and images of other sizes, zeros,
    ties, other parameters, modes and precisions. The object is never modified.

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
    call = ("check_layer", (layer, *arrays), options | {"twin_params": twin_params})
    case = Case(subject, arrays, seed, twin=twin, twin_params=dict(twin_params or {}))
    return _check(case, settings, call, remark, claims)


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
    reference: object | None = None,
    params: Iterable[ArrayLike] | Mapping[str, ArrayLike] | None = None,
    lr: str | None = None,
    seed: int = 0,
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Check an optimizer against torch's over ``steps`` steps of several tensors, the rate changed half-way.

    ``optimizer`` is an `Optimizer`, or any object or function that moves parameters: ``step(params, grads)`` or
    ``update(params, grads)`` on dicts or lists, ``update(w, dw)``, ``update(name, w, dw)`` or ``f(w, dw, config)`` on
    one tensor a call, ``update(layer)``, ``step()`` of one that holds its parameters; in place or returned. How it is
    called is found by calling copies, and is said in the report. ``lr`` names the attribute that holds its rate, where
    that has no usual name.
    ``twin(list of torch parameters)`` returns the torch optimizer with the same hyper-parameters. Where torch has none,
    ``reference`` is a rule ``f(param, grad, state, lr, t) -> (param, state)``, or another optimizer of any kind: the
    state is an empty dict at first, and t counts the steps from 1. ``params`` are the tensors to move, in a dict if
    their names matter: by default four, of different shapes, or those that the optimizer holds.
    Raises `AdapterError` for an optimizer that cannot be called.
    """
    _require_object("check_optimizer", "optimizer", optimizer)
    if twin is not None and not callable(twin):
        raise AdapterError(
            "check_optimizer needs a twin, a function from a list of torch parameters to a torch optimizer, got a "
            f"{type(twin).__name__}; tensors to move are given as params="
        )
    if steps < 1:
        raise ValueError(f"check_optimizer needs at least 1 step, got {steps}")
    given = dict(params) if isinstance(params, Mapping) else None if params is None else list(params)
    arrays = None if given is None else _arrays(given.values() if isinstance(given, dict) else given)
    options = {"twin": twin, "reference": reference, "steps": steps, "lr": lr, "params": _given(given, arrays)}
    settings, call = Settings(dtypes=tuple(dtypes), steps=steps), ("check_optimizer", (optimizer,), options)
    rng = stream("parameters to move", seed)
    if isinstance(optimizer, Optimizer):
        _refuse_twin(optimizer, twin if reference is None else reference)
        return _check(Case(optimizer, arrays or drawn_parameters(rng), seed), settings, call)
    subject, tensors = read_optimizer(optimizer, _given(given, arrays), rng, lr)
    subject = optimizer_with_reference(subject, twin, reference, tensors)
    return _check(Case(subject, tensors, seed), settings, call, f"read as: {subject.reading}")


def check_schedule(
    schedule: object,
    twin: Callable[[Any], Any] | None = None,
    *,
    reference: object | None = None,
    base_lr: float = 0.1,
    epochs: int | None = None,
    seed: int = 0,
) -> Report:
    """Check a learning-rate schedule against torch's, by default for as many epochs as it changes in, and more.

    ``schedule`` is a `Schedule`, a list of rates, or anything that is called with an epoch 0, 1, ... and returns its
    rate; if it has a second argument, named ``history`` or without a default, that is the losses of the epochs before.
    An object that has ``step()`` and shows its rate, as in ``lr`` or ``get_lr()``, is stepped once an epoch.
    ``twin(optimizer)`` returns the torch scheduler; the optimizer's initial rate is ``base_lr``. Where torch has none,
    ``reference`` is another schedule of any of these kinds. ``epochs`` is how many are compared, exactly.
    Raises `AdapterError` for a schedule that gives no rates.
    """
    if epochs is not None and epochs < 1:
        raise ValueError(f"check_schedule needs at least 1 epoch, got {epochs}")
    options = {"twin": twin, "reference": reference, "base_lr": base_lr, "epochs": epochs}
    call = ("check_schedule", (schedule,), options)
    if isinstance(schedule, Schedule):
        _refuse_twin(schedule, twin if reference is None else reference)
        return _check(Case(schedule, (), seed), Settings(steps=epochs or FOLLOWING), call)
    subject = schedule_with_reference(schedule, twin, reference, base_lr, epochs)
    extent = Extent(epochs, "as epochs= says") if epochs is not None else extent_of(subject)
    remark = f"read as: {subject.reading}; looked at epochs 0 to {extent.epochs - 1}: {extent.reason}"
    return _check(Case(subject, (), seed), Settings(steps=extent.epochs), call, remark)


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


def _require_object(who: str, what: str, value: object) -> None:
    if isinstance(value, type):
        article = "an" if what[0] in "aeiou" else "a"
        raise AdapterError(f"{who} needs {article} {what}, got the class {value.__name__}: make one")


def _refuse_twin(subject: Optimizer | Schedule, twin: object) -> None:
    if twin is not None:
        raise AdapterError(f"{type(subject).__name__} brings its own twin, and takes no other")


def _require_module(twin: object) -> None:
    if isinstance(twin, type):
        raise AdapterError(f"twin is a torch.nn.Module, got the class {twin.__name__}: write {twin.__name__}(...)")
    if twin is not None and not (callable(twin) and hasattr(twin, "named_parameters")):
        raise AdapterError(f"twin is a torch.nn.Module, got a {type(twin).__name__}")


def _given(
    params: list[ArrayLike] | dict[str, ArrayLike] | None, arrays: tuple[Array, ...] | None
) -> dict[str, Array] | list[Array] | None:
    if arrays is None:
        return None
    return dict(zip(params, arrays, strict=True)) if isinstance(params, dict) else list(arrays)


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
            explained = sum(bool(outcome.causes) for _, outcome in outcomes)
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
