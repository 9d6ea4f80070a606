"""The front door: check a layer, loss, optimizer, schedule, initialiser or function, native or anybody's."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from gradcheck.contract import Array, Case, Layer, Loss, Optimizer, Schedule
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.functions import function_of, precision_taken
from gradcheck.properties import DTYPES, Mode, Outcome, Property, Settings
from gradcheck.properties.outcome import Budget
from gradcheck.properties.rates import FOLLOWING, Extent, extent_of
from gradcheck.properties.twins import has_twin
from gradcheck.report.results import DECIDING, Finding, Report
from gradcheck.report.snippets import snippet_of_call
from gradcheck.report.text import sentence
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError, input_names, member
from gradcheck.subjects.caller import Given, in_precision
from gradcheck.subjects.calls import Constant, Contextual, Held, Pair, Together, arranged, is_contextual
from gradcheck.subjects.domains import DOMAINS, Domain
from gradcheck.subjects.function import PlainFunction, names_of, plain_function
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss
from gradcheck.subjects.optimizer_reading import drawn_parameters, read_optimizer
from gradcheck.subjects.parameters import arrays_of, nearest
from gradcheck.subjects.reader import read
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.references import optimizer_with_reference, schedule_with_reference
from gradcheck.subjects.signatures import WHOLES
from gradcheck.subjects.twin import import_torch, mode_of_twin
from gradcheck.subjects.variations import AFTER_ANOTHER, AS_GIVEN, DEGENERATE, Variation, variations
from gradcheck.subjects.ways import derivative_flag, way_back
from gradcheck.trials import EXAMPLES, Subject, drawn_cases, found_in, joined, properties_of, unless_torch_is_missing

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

TIMED, TIMED_FOR = 8, 0.05  # calls that are timed, and how many seconds they may take together
VARIATIONS_EXPLAINED = 3  # failing variations of one object, with as many samples each, whose cause is sought


FOREIGN = (ForeignLayer, ForeignLoss, PlainFunction)

OF_A_FAILURE = 0.5  # of the time, after which a failure is not tried on more variations before all else has been tried

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
    *inputs: object,
    twin: torch.nn.Module | None = None,
    params: Mapping[str, str] | None = None,
    grads: Mapping[str, str] | None = None,
    twin_params: Mapping[str, str] | None = None,
    forward: str = "",
    backward: str = "",
    constant: str | int | Iterable[str | int] = (),
    training: bool | None = None,
    domain: str | None = None,
    seed: int = 0,
    mode: Mode = "auto",
    seconds: float | None = None,
    max_evaluations: int | None = None,
    dtypes: Sequence[str] = DTYPES,
    claims: Iterable[Property | str] | None = None,
    variations: bool = True,
) -> Report:
    """Check a layer against finite differences, a torch ``twin`` if there is one, and itself.

    ``layer`` is a `Layer`, any object that goes forward and backward, a pair of functions ``(forward, backward)``
    with a cache: ``forward(*inputs) -> (y, cache)``, ``backward(dy, cache) -> gradients``, a function that returns
    ``(y, gradient)`` or ``(y, pullback)``, or a class of static methods ``forward(ctx, x)``, ``backward(ctx, dy)``.
    How it is called, where its results, parameters and gradients are, how it is switched between training and
    evaluation and which axis is the batch is read first, by calling copies, and stands in ``report.reading``; the
    object is never modified. Where the reading is not what you mean, say it: ``params={"weight": "W"},
    grads={"weight": "dW"}`` (paths such as ``params.W`` or ``W.T``), ``forward=`` and ``backward=`` (names of
    methods), ``constant=`` (numbers or names of inputs, or paths of arrays, without a gradient), ``training=`` (one
    mode alone), ``domain=`` (any, positive, unit, sums, symmetric, skew). The twin's weights are set from those of
    the same name, or where ``twin_params`` says: with ``{"Wi": "weight_ih_l0[0:3].T"}`` Wi is a part of a twin's
    weight. Of several outputs of a twin, the first of the layer's own shape is compared.

    From the inputs given, others are derived, unless ``variations`` is False: batches and images of other sizes,
    zeros, ties, other parameters, modes and precisions, a call after another one. ``mode`` is ``full`` (every
    element is perturbed), ``fast`` (random directions) or ``auto`` (every element of the inputs given where that is
    cheap, random directions elsewhere, and every element where these disagree); ``seconds`` bounds the processor
    time of the whole check (5 in auto mode, 2 in fast, none in full), ``max_evaluations`` the forward calls by
    which single elements are perturbed, in each case; ``claims`` are the properties to try, or their names, by
    default all. Raises `AdapterError`, which says in one line what to write, for what cannot be called.
    """
    shared = layer if isinstance(layer, ReadOnce) else ReadOnce(layer)
    layer = shared.subject
    layer = type(layer) if is_contextual(type(layer)) else layer
    if not is_contextual(layer):
        _require_object("check_layer", "layer", layer)
    _require_module(twin)
    if not inputs:
        raise AdapterError("check_layer needs an input to try the layer on: check_layer(layer, x)")
    settings = Settings(mode, max_evaluations, tuple(dtypes), seconds=seconds)
    options = {
        "twin": twin, "params": params, "grads": grads, "forward": forward, "backward": backward,
        "constant": constant if isinstance(constant, (str, int)) else tuple(constant), "training": training,
        "domain": domain, "variations": variations, "seconds": seconds,
    }  # fmt: skip
    scope = Scope(training, _domain(domain), variations)
    subject: Any = layer
    if isinstance(layer, Layer):
        if len(inputs) != 1:
            raise AdapterError(f"a Layer has one input, got {len(inputs)}")
        arrays = _arrays(inputs)
    else:
        values = _values(inputs)
        given = Given(dict(params or {}), dict(grads or {}), forward, backward, _constant(constant))
        subject, arrays = shared.read(lambda: _read_layer(layer, values, given))
        if twin is not None:
            subject = _with_buffers(subject, twin)
    case = Case(subject, arrays, seed, twin=twin, twin_params=dict(twin_params or {}))
    remark = ""
    if training is None and isinstance(subject, ForeignLayer) and (as_twin := _mode_of_twin(case)):
        scope, remark = replace(scope, training=as_twin), f"{subject.name} has no modes: its twin is in training mode"
    call = ("check_layer", (layer, *inputs), options | {"twin_params": twin_params})
    return _check(case, settings, call, claims, scope, remark)


def check_loss(
    loss: object,
    prediction: ArrayLike,
    target: ArrayLike,
    *others: object,
    twin: torch.nn.Module | None = None,
    forward: str = "",
    backward: str = "",
    constant: str | Iterable[str] = (),
    domain: str | None = None,
    seed: int = 0,
    mode: Mode = "auto",
    seconds: float | None = None,
    max_evaluations: int | None = None,
    dtypes: Sequence[str] = DTYPES,
    claims: Iterable[Property | str] | None = None,
    variations: bool = True,
) -> Report:
    """Check a loss as `check_layer` does a layer.

    ``loss`` is a `Loss`, any object or pair of functions that returns a number, or one a sample, of a prediction and a
    target, in whichever order its arguments are called (``others`` come behind), and a gradient of the prediction: from
    ``backward()``, ``backward(dvalue)``, ``grad(prediction, target)``, or together with the value. ``constant`` are the
    paths of arrays that it holds and that have no gradient, such as weights of classes.
    """
    shared = loss if isinstance(loss, ReadOnce) else ReadOnce(loss)
    loss = shared.subject
    _require_object("check_loss", "loss", loss)
    _require_module(twin)
    arrays = _arrays((prediction, target))
    behind = _values((prediction, *others))[1:]
    floating, target_floating = (array.dtype.kind == "f" for array in arrays)
    if target_floating and not _is_one_hot(arrays[1]) and (not floating or _is_one_hot(arrays[0])):
        raise AdapterError(
            "check_loss takes (loss, prediction, target): the prediction given is "
            f"{'one-hot' if floating else arrays[0].dtype}, the target is not; exchange them"
        )
    if not floating:
        raise AdapterError(f"check_loss needs a floating-point prediction, got {arrays[0].dtype}")
    settings = Settings(mode, max_evaluations, tuple(dtypes), seconds=seconds)
    subject: Any = loss
    if not isinstance(loss, Loss):
        given, fixed = (*arrays, *behind), tuple(map(str, _constant(constant)))
        subject = shared.read(
            lambda: _with_constants(ForeignLoss.of(loss, *given, forward=forward, backward=backward), fixed)
        )
    arrays += tuple(arranged(behind)[0])
    options = {"twin": twin, "forward": forward, "backward": backward, "constant": _constant(constant),
               "domain": domain, "variations": variations, "seconds": seconds}  # fmt: skip
    call = ("check_loss", (loss, *arrays[:2], *others), options)
    return _check(
        Case(subject, arrays, seed, twin=twin), settings, call, claims, Scope(None, _domain(domain), variations)
    )


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
    return _check(Case(subject, tensors, seed), settings, call, remark=f"read as: {subject.reading}")


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
    return _check(Case(subject, (), seed), Settings(steps=extent.epochs), call, remark=remark)


def check_gradients(
    f: Callable[..., Any],
    inputs: Sequence[ArrayLike] | Mapping[str, ArrayLike],
    vjp: Callable[..., Any],
    *,
    names: Sequence[str] | None = None,
    domain: str | None = None,
    seed: int = 0,
    mode: Mode = "auto",
    seconds: float | None = None,
    max_evaluations: int | None = None,
    variations: bool = True,
) -> Report:
    """Check ``vjp(inputs, dy)``, which returns one gradient per input given dy = dLoss/d(output).

    ``inputs`` is a tuple; of two or more, ``vjp(x, w, dy)`` and ``vjp(dy, x, w)`` are taken too, as its arguments say.
    ``f(*inputs)`` returns an array, or ``(array, cache)``. Gradients are called by the names of its arguments, by
    ``names``, or by the keys of a dict of inputs. Zeros, ties, signs and other batches are derived from the inputs
    given, unless ``variations`` is False.
    """
    if isinstance(inputs, np.ndarray):
        raise AdapterError("check_gradients needs a tuple of inputs, got one array: write (x,)")
    if isinstance(inputs, Mapping):
        names, values = tuple(inputs), tuple(inputs.values())
    else:
        values = tuple(inputs)
    arrays = _arrays(values)
    if not any(array.dtype.kind == "f" for array in arrays):
        raise AdapterError("check_gradients needs a floating-point input; no other has a gradient")
    settings = Settings(mode, max_evaluations, seconds=seconds)
    subject = plain_function(f, vjp, arrays, names)
    fixed = subject.reading is not None and subject.reading.fixed
    options = {"names": names, "domain": domain, "variations": variations, "seconds": seconds}
    call = ("check_gradients", (f, arrays, vjp), options)
    scope = Scope(None, _domain(domain), variations and not fixed)
    return _check(Case(subject, arrays, seed), settings, call, None, scope)


def check_class(
    subject: Subject,
    *,
    claims: Iterable[Property | str] | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    settings: Settings = Settings(),
) -> Report:
    """Try properties (by default all) of a class on ``examples`` cases each that Hypothesis draws from its ``cases()``.

    All are tried and the smallest failing one is reported: shrinking would take longer than everything else. Raises
    `AdapterError` where ``cases()`` raises, which says nothing of the class.
    """
    name, tried = subject.__name__, claims_of(subject, claims)
    findings: list[Finding] = []
    before: list[Case] = []
    evaluations = 0
    for claim in tried:
        cases = drawn_cases(subject, examples, seed)
        for case, last in zip(cases, before, strict=False):  # there are none before the first claim
            case.found.update(last.found)  # what was computed, and not what may have been spoilt
        if (finding := found_in(name, claim, cases, settings)) is not None:
            findings.append(finding)
        evaluations += sum(case.tally.evaluations for case in cases)
        before = cases
    return Report(name, tuple(findings), evaluations, seed, settings)


def check_variations(
    case: Case, *, claims: Iterable[Property | str] | None = None, settings: Settings = Settings()
) -> Report:
    """Try properties (by default all) of a case as given and of its variations."""
    return _check(case, settings, None, claims)


def _samples(case: Case) -> tuple[int, ...]:
    return case.inputs[0].shape[:1] if case.inputs else ()


class ReadOnce:
    """An object that several checks share, with the same inputs and options: the first of them alone reads it.

    It is given to `check_layer` or `check_loss` in the place of the object.
    """

    def __init__(self, subject: object) -> None:
        self.subject = subject
        self._found: Any = None

    def read(self, how: Callable[[], T]) -> T:
        """Return what the first call of ``how`` returned."""
        if self._found is None:
            self._found = how()
        found: T = self._found
        return found


def _require_object(who: str, what: str, value: object) -> None:
    if isinstance(value, type):
        article = "an" if what[0] in "aeiou" else "a"
        raise AdapterError(f"{who} needs {article} {what}, got the class {value.__name__}: make one")


def _refuse_twin(subject: Optimizer | Schedule, twin: object) -> None:
    if twin is not None:
        raise AdapterError(f"{type(subject).__name__} brings its own twin, and takes no other")


def _required(who: str, what: str, twin: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return the twin, a function from ``what``; raises AdapterError for none."""
    if callable(twin):
        return twin
    came = "" if twin is None else f", got a {type(twin).__name__}"
    raise AdapterError(f"{who} needs a twin: a function from {what}{came}")


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


def _arrays(values: Iterable[object]) -> tuple[Array, ...]:
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


def _values(inputs: Sequence[Any]) -> list[Any]:
    """Return what is given to forward: arrays, lists of arrays, and everything else as it is.

    A number of Python's behind the first input is no array: a rate of dropout, say, has no gradient.
    """
    values: list[Any] = []
    for place, value in enumerate(inputs):
        if (
            isinstance(value, (str, bytes, bool, dict, type(None)))
            or callable(value)
            or (isinstance(value, (int, float)) and place and not isinstance(value, np.generic))
        ):
            values.append(value)
        elif isinstance(value, (list, tuple)) and value and all(isinstance(one, np.ndarray) for one in value):
            values.append(list(_arrays(value)))
        else:
            values += _arrays((value,))
    return values


def _is_one_hot(array: Array) -> bool:
    return array.ndim == 2 and bool(np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all())


def _constant(given: str | int | Iterable[str | int]) -> tuple[str | int, ...]:
    return (given,) if isinstance(given, (str, int)) else tuple(given)


def _domain(name: str | None) -> Domain | None:
    if name is not None and name not in DOMAINS:
        raise AdapterError(f"domain is one of {', '.join(DOMAINS)}, got {name!r}")
    return None if name is None else DOMAINS[name]


def _read_layer(layer: object, values: Sequence[Any], given: Given) -> tuple[ForeignLayer, tuple[Array, ...]]:
    """Return an object, or a pair of functions, after reading it, and the arrays that it is tried on."""
    arrays, _ = arranged(values)
    if not arrays:
        raise AdapterError("check_layer needs an array to try the layer on: check_layer(layer, x)")
    subject, names = layer, input_names(len(arrays))
    if isinstance(layer, (tuple, list)):
        if len(layer) != 2 or not all(map(callable, layer)):
            raise AdapterError("check_layer needs an object, or a pair of functions (forward, backward)")
        subject = Pair(*layer)
        names = list(names_of(layer[0], len(values))) if len(arrays) == len(values) else names
        given = replace(given, forward="forward", backward="backward")
        subject, given = _with_parameters(subject, values, given)
    elif isinstance(layer, type):
        subject, given = Contextual(layer), replace(given, forward="forward", backward="backward")
    elif inspect.isroutine(layer):
        names = list(names_of(layer, len(values))) if len(arrays) == len(values) else names
        subject = Pair(layer, layer) if derivative_flag(layer) else Together(layer, "")
        given = replace(given, forward="forward", backward="backward")
    elif not given.backward and not way_back(layer, given.forward):
        generates = "forward" if inspect.isgeneratorfunction(getattr(layer, "forward", None)) else ""
        forward = given.forward or generates or next((n for n in WHOLES if callable(member(layer, n))), "")
        if forward and not derivative_flag(getattr(layer, forward)):
            subject, given = Together(layer, forward), replace(given, forward="forward", backward="backward")
    reading = read(subject, values, names, given)
    fixed = {*names, *reading.argument_names, *range(len(arrays))}
    inputs = f"the inputs {', '.join(reading.argument_names)}"
    reading = _without(reading, [c for c in given.constant if c not in fixed], inputs)
    return ForeignLayer.as_read(subject, reading), tuple(arrays)


def _with_parameters(pair: Pair, values: Sequence[Any], given: Given) -> tuple[Pair, Given]:
    """Return a pair of functions that holds its parameters: the dict of arrays that is given among its inputs."""
    _, arguments = arranged(values)
    held = [
        place
        for place, argument in enumerate(arguments)
        if isinstance(argument, Constant) and isinstance(argument.value, Mapping) and arrays_of(argument.value)
    ]
    if len(held) != 1:
        return pair, given
    (place,) = held
    pair.params = values[place]
    return pair, replace(given, order=(*arguments[:place], Held("params"), *arguments[place + 1 :]))


def _without(reading: Reading, constant: Sequence[str | int], inputs: str = "") -> Reading:
    """Return a reading whose arrays without a gradient are no surprise where the user says that they have none."""
    if unknown := [c for c in constant if c not in reading.unchecked]:
        held = [f"the arrays without a gradient {', '.join(reading.unchecked)}"] if reading.unchecked else []
        known = " and ".join([inputs] * bool(inputs) + held) or "no such array"
        raise AdapterError(f"constant= names {unknown[0]!r}; there are {known}")
    return replace(reading, unchecked=tuple(path for path in reading.unchecked if path not in constant))


def _with_constants(loss: ForeignLoss, constant: Sequence[str]) -> ForeignLoss:
    return replace(loss, layer=replace(loss.layer, reading=_without(loss.reading, constant)))


@np.errstate(all="ignore")
def _mode_of_twin(case: Case) -> bool | None:
    with suppress(ModuleNotFoundError):  # a property that needs torch says that it is missing
        return mode_of_twin(case)
    return None


def _with_buffers(layer: ForeignLayer, twin: torch.nn.Module) -> ForeignLayer:
    """Return the layer with those of its arrays named that are the twin's buffers, by the same name and shape."""
    state = {name: tuple(buffer.shape) for name, buffer in twin.named_buffers()}
    found = {
        name: name
        for name, shape in state.items()
        if np.shape(getattr(layer.layer, name, ())) == shape and shape and name not in layer.reading.params
    }
    reading = layer.reading
    named = {name: path for name, path in reading.params.items() if name in state}
    params = {name: path for name, path in reading.params.items() if name not in state}
    return replace(layer, reading=replace(reading, params=params), untrained={**named, **found})


@dataclass(frozen=True)
class Scope:
    """What of a subject is tried: one mode or both, the domain of its input, variations or none."""

    training: bool | None = None
    domain: Domain | None = None
    variations: bool = True


UNSEEDED = (
    "the forward pass returns different values for the same input: it draws random numbers from a generator that is "
    "made anew in each call; let it draw from np.random, or from a generator that the object keeps"
)


@np.errstate(all="ignore")  # variations of extreme inputs overflow
def _check(
    case: Case,
    settings: Settings,
    call: tuple[str, tuple[Any, ...], dict[str, Any]] | None,
    claims: Iterable[Property | str] | None = None,
    scope: Scope = Scope(),
    remark: str = "",
) -> Report:
    tried = claims_of(case.subject, claims)
    case, settings = _as_taken(case, settings)
    name = getattr(case.subject, "name", type(case.subject).__name__)
    reading = getattr(case.subject, "reading", None)  # of optimizers and schedules, in words
    notes: list[str] = [remark] if remark else []
    if isinstance(reading, Reading) and reading.unseeded:
        silent = Variation(AS_GIVEN, case), Outcome(Verdict.INCONCLUSIVE, None, UNSEEDED)
        found = {claim.__name__: [silent] for claim in tried}
    else:
        found = _tried(case, tried, settings, scope, notes)
    findings = [joined(name, claim, outcomes) for claim, outcomes in found.items() if outcomes]
    if notes and findings:
        findings[0] = replace(findings[0], remarks=(*findings[0].remarks, *dict.fromkeys(notes)))
    again = None
    if call is not None:
        function, arguments, options = call

        def again() -> str:
            return snippet_of_call(function, arguments, options, case.seed, settings)

    return Report(
        name,
        tuple(findings),
        case.tally.evaluations,
        case.seed,
        settings,
        again,
        reading if isinstance(reading, Reading) else None,
    )


def _as_taken(case: Case, settings: Settings) -> tuple[Case, Settings]:
    """Return a case in the one precision that its subject takes, where it refuses another."""
    subject = case.subject
    if not isinstance(subject, FOREIGN) or (taken := precision_taken(case)) is None:
        return case, settings
    inputs = tuple(in_precision(array, taken) for array in case.inputs)
    return replace(case, subject=subject.in_precision(taken), inputs=inputs), replace(
        settings, dtypes=(np.dtype(taken).name,)
    )


def _measure(case: Case) -> None:
    """Measure the time of a forward and a backward pass, the least of several: the first may make what others need."""
    if not isinstance(case.subject, (Layer, Loss, *FOREIGN)):
        return
    seconds: list[float] = []
    try:
        function = function_of(case)
        while len(seconds) < TIMED and sum(seconds) < TIMED_FOR:
            begun = time.thread_time()
            y, pullback = function.call(function.variables, case.context())
            pullback(np.ones_like(y))
            seconds.append(time.thread_time() - begun)
    except Exception:  # noqa: BLE001  what it raises is for the properties to report
        return
    case.measured["seconds"] = min(seconds)


def _tried(
    case: Case, claims: Sequence[Property], settings: Settings, scope: Scope, notes: list[str]
) -> dict[str, list[tuple[Variation, Outcome]]]:
    """Return what each property finds in the case as given and in its variations, as far as the time goes.

    What tells most comes first: gradients as given, then their variations, then what holds of the calls themselves.
    Where something has failed, more variations of it wait for the rest.
    """
    found: dict[str, list[tuple[Variation, Outcome]]] = {claim.__name__: [] for claim in claims}
    if not claims:
        return found
    _measure(case)
    if has_twin(case):
        with suppress(ModuleNotFoundError):  # a property that needs torch says that it is missing
            import_torch()  # which is no time of the check
    budget, left = Budget(settings.limit), dict[str, None]()

    def attempt(variation: Variation, claim: Property) -> None:
        outcomes = found[claim.__name__]
        # Of as many samples each: another number of them tells the batch size from whatever else is as large.
        explained = sum(bool(o.causes) for v, o in outcomes if _samples(v.case) == _samples(variation.case))
        explain = explained < VARIATIONS_EXPLAINED and variation.name not in DEGENERATE
        if variation.name.startswith(AFTER_ANOTHER):  # the case as given once more, if that has failed
            explain = explain and not any(o.verdict is Verdict.FAIL for _, o in outcomes)
        derived = not variation.name.startswith(AS_GIVEN)
        asked = replace(settings, explain=explain, derived=derived, until=budget.until)
        outcome = unless_torch_is_missing(variation.case, claim, asked)
        if outcome is not None:
            outcomes.append((variation, outcome))

    def attempt_varied(variation: Variation) -> None:
        as_given = variation.name.startswith(AS_GIVEN)
        for claim in (each for each in claims if each.__name__ in VARIED):
            if budget.spent() and not (as_given and claim.__name__ in DECIDING):
                left[variation.name] = None
            else:
                attempt(variation, claim)

    given: list[Variation] = []
    waiting: list[Variation] = []
    derived = variations(case, training=scope.training, domain=scope.domain, notes=notes)
    for variation in derived:
        if variation.name.startswith(AS_GIVEN):
            given.append(variation)
        elif not scope.variations:
            break
        elif budget.spent(OF_A_FAILURE) and any(o.verdict is Verdict.FAIL for _, o in chain(*found.values())):
            waiting.append(variation)
            break
        attempt_varied(variation)
    for claim in (each for each in claims if each.__name__ not in VARIED):
        for variation in given:
            if budget.spent():
                left[sentence(claim.__name__)] = None
            else:
                attempt(variation, claim)
    for variation in chain(waiting, derived) if waiting else ():
        attempt_varied(variation)
    if left:
        late = f"left out after {settings.limit:g} s"
        notes.append(f"{late}: {'; '.join(left)} (seconds= gives it more)")
        if not any(found.values()):  # what was not tried is not what does not apply
            silent = Outcome(Verdict.INCONCLUSIVE, None, f"{late} (seconds= gives it more)")
            return {claim.__name__: [(given[0], silent)] for claim in claims}
    return found


def claims_of(subject: object, claims: Iterable[Property | str] | None) -> tuple[Property, ...]:
    """Return the properties to try; raises `AdapterError` for a name that is none of the subject's."""
    known = {claim.__name__: claim for claim in properties_of(subject)}
    if claims is None:
        return tuple(known.values())
    chosen = []
    for claim in (claims,) if isinstance(claims, str) else claims:
        if isinstance(claim, str) and claim not in known:
            close = nearest(claim, known)
            raise AdapterError(
                f"claims= names {claim!r}, which is no property; "
                + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}")
            )
        chosen.append(known[claim] if isinstance(claim, str) else claim)
    return tuple(chosen)
