"""What the arguments of a method are for, by their names.

And how an object is switched between training and evaluation.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gradcheck.subjects.attributes import member

# By which public code calls its methods, the commonest first.
FORWARDS = (
    "forward", "__call__", "forward_pass", "forward_propagation", "forward_prop", "forwardprop", "fprop", "feedforward",
    "feed_forward", "propagate", "call", "apply", "fwd", "loss", "compute", "f",
)  # fmt: skip
BACKWARDS = (
    "backward", "backprop", "back_prop", "backward_pass", "backward_propagation", "back_propagation", "backpropagation",
    "backpropagate", "back_propagate", "bprop", "backward_prop", "gradient", "grad", "gradients", "back", "bwd", "vjp",
    "pullback", "derivative", "prime",
)  # fmt: skip

WHOLES = (  # that return a value and its gradients at once
    "loss", "cost_and_grads", "cost_and_grad", "loss_and_grads", "loss_and_grad", "value_and_grad", "loss_and_gradient",
    "cost_and_gradient", "compute_loss", "cost", "objective", "loss_grad", "__call__",
)  # fmt: skip

COTANGENTS = {
    "dy", "dout", "douts", "dvalues", "dvalue", "doutput", "doutputs", "gradoutput", "gradoutputs", "gradout",
    "upstream", "upstreamgrad", "upstreamgradient", "dz", "da", "dh", "dc", "delta", "deltas", "grad", "grads",
    "gradient", "gradients", "outputgrad", "outputgradient", "outgrad", "g", "d", "dl", "dldy", "dldout", "dlda",
    "dldz", "dedy", "error", "err", "outputerror", "accumgrad", "gy", "gout", "gradin", "dnext", "dprev", "nextgrad",
    "eta", "dnextlayer", "dx", "lossgrad", "gradientoutput", "gradsoutput", "outputgradients", "dloss", "seed",
    "cotangent", "ct", "v", "dlout", "dj", "dscores",
}  # fmt: skip
RATES = {
    "lr", "learnrate", "learningrate", "rate", "alpha", "eta", "stepsize", "learning",
}  # fmt: skip
CACHES = {
    "cache", "caches", "ctx", "context", "mem", "memory", "saved", "tape", "residuals", "stash", "store", "cached",
}  # fmt: skip
TARGETS = {
    "ytrue", "true", "target", "targets", "t", "label", "labels", "gt", "groundtruth", "actual", "expected", "real",
}  # fmt: skip
PREDICTIONS = {
    "ypred", "pred", "preds", "prediction", "predictions", "predicted", "yhat", "output", "outputs", "out", "logits",
    "p", "probs", "probabilities", "scores", "x", "z", "a", "al", "yp", "o", "input",
}  # fmt: skip

# Names that leave no doubt: x, y, t, input and output are what layers have, too.
CERTAIN_TARGETS = TARGETS - {"t"}
CERTAIN_PREDICTIONS = PREDICTIONS - {"x", "z", "a", "al", "p", "o", "input", "output", "outputs", "out"}

KEEPS = re.compile("save|keep(?!dim)|store|cache|retain|remember|memor")

TRAINS = {
    "training", "train", "trainflg", "trainflag", "istraining", "istrain", "trainmode", "trainingmode", "phasetrain",
    "intraining", "trainphase",
}  # fmt: skip
TESTS = {
    "test", "eval", "evaluate", "evaluation", "inference", "istest", "iseval", "testing", "deterministic", "testmode",
    "evalmode", "predict", "isinference", "testtime", "evaluating", "istesting",
}  # fmt: skip
MODES = {"mode", "phase"}
TRAIN_WORDS, TEST_WORDS = (
    ("train", "training"),
    ("test", "eval", "evaluation", "inference", "infer", "predict", "valid"),
)

_ANYTHING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def plain(name: str) -> str:
    """Return a name without underscores and capitals: ``grad_output`` and ``gradOutput`` are the same."""
    return name.replace("_", "").lower()


def parameters_of(function: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters of a function or bound method; none where Python does not know them.

    Of one that takes anything and calls another, as decorators make it, those of the other.
    """
    try:
        own = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    inner = unwrapped(function)
    if inner is function:
        return own
    return parameters_of(inner)[1 if inspect.ismethod(function) and not inspect.ismethod(inner) else 0 :]


def unwrapped(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function that another calls which takes anything, as decorators make it; itself if it does not."""
    try:
        kinds = tuple(each.kind for each in inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return function
    if kinds != _ANYTHING:
        return function
    outer = getattr(function, "__func__", function)
    with suppress(ValueError):  # of what it closes over, something has no value yet
        held = [cell.cell_contents for cell in getattr(outer, "__closure__", None) or ()]
        inner = [one for one in (*held, *vars(outer).values()) if inspect.isroutine(one) and one is not outer]
        return inner[0] if len(inner) == 1 else function
    return function


def name_of(owner: object) -> str:
    """Return the name of a function, without decorators, or of a class or an object's class, as its user knows it."""
    named = unwrapped(owner) if inspect.isroutine(owner) else owner
    return str(getattr(named, "__name__", type(named).__name__))


def positional(function: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters that may be given by their place."""
    return [each for each in parameters_of(function) if each.kind in _POSITIONAL]


def required(function: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters that must be given: those without a default."""
    kinds = (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
    return [each for each in parameters_of(function) if each.kind in kinds and each.default is inspect.Parameter.empty]


def takes_any_number(function: Callable[..., object]) -> bool:
    """Return whether a function takes ``*args``."""
    return any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters_of(function))


def keeps(name: str) -> bool:
    """Return whether a flag's name says that something is kept for the backward pass."""
    return re.search(KEEPS, plain(name)) is not None


@dataclass(frozen=True)
class Flag:
    """An argument or attribute that says whether to train, with its two values."""

    name: str
    training: object
    evaluation: object

    def of(self, training: bool) -> object:
        """Return the value for a mode."""
        return self.training if training else self.evaluation


def flag_of(name: str, value: object) -> Flag | None:
    """Return what an argument of this name and default, or an attribute of this value, says of the mode.

    None if not.
    """
    word, unset = plain(name), value is inspect.Parameter.empty
    if unset or isinstance(value, (bool, int, type(None))):
        if word in TRAINS:
            return Flag(name, True, False)
        if word in TESTS:
            return Flag(name, False, True)
    if word in (MODES | TRAINS | TESTS) and isinstance(value, str):
        if value.lower() in TRAIN_WORDS:
            return Flag(name, value, "test")
        if value.lower() in TEST_WORDS:
            return Flag(name, "train", value)
    return Flag(name, "train", "test") if word in MODES and unset else None


def flags_of_arguments(function: Callable[..., object], taken: int) -> list[Flag]:
    """Return the flags among a function's arguments behind the first ``taken``."""
    names = {each.name for each in positional(function)[:taken]}
    found = (flag_of(each.name, each.default) for each in parameters_of(function) if each.name not in names)
    return [flag for flag in found if flag is not None]


@dataclass(frozen=True)
class Switch:
    """How an object is told to train or to evaluate: by flags of ``forward``, by its methods, or by attributes.

    ``attributes`` are pairs of the path to an object below ("" is the object itself) and a flag there.
    """

    arguments: tuple[Flag, ...] = ()
    methods: tuple[str, str] | None = None  # without arguments
    setter: str = ""  # a method that takes the value of a flag
    attributes: tuple[tuple[str, Flag], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.arguments or self.methods or self.setter or self.attributes)

    def keywords(self, *, training: bool) -> dict[str, object]:
        """Return the keyword arguments of ``forward`` for a mode."""
        return {flag.name: flag.of(training) for flag in self.arguments}

    def set(self, owner: Any, find: Callable[[object, str], Any], *, training: bool) -> None:
        """Switch an object; ``find(owner, path)`` returns what is below it."""
        if self.methods is not None:
            getattr(owner, self.methods[0 if training else 1])()
        if self.setter:
            getattr(owner, self.setter)(training)
        for path, flag in self.attributes:
            setattr(find(owner, path) if path else owner, flag.name, flag.of(training))

    def name(self) -> str:
        """Return what is switched, as the object's author calls it."""
        if self.arguments:
            return self.arguments[0].name
        if self.methods:
            return f"{self.methods[0]}() and {self.methods[1]}()"
        if self.setter:
            return f"{self.setter}()"
        path, flag = self.attributes[0] if self.attributes else ("", Flag("", True, False))
        return f"{path}.{flag.name}" if path else flag.name


_PAIRS_OF_METHODS = (
    ("train", "eval"), ("train_mode", "eval_mode"), ("training_mode", "evaluation_mode"), ("train_mode", "test_mode"),
    ("set_train", "set_eval"), ("set_train_mode", "set_eval_mode"),
)  # fmt: skip
_SETTERS = ("train", "set_training", "set_train", "set_train_mode", "set_training_mode", "is_training", "training")
_SET_BY = TRAINS | MODES | {"value", "flag", "on", "status", "b"}  # what a setter's argument is called


def switch_of(owner: object, forward: Callable[..., object], taken: int, below: Mapping[str, object]) -> Switch:
    """Return how ``owner`` is switched; ``below`` are the objects in it by their paths."""
    arguments = tuple(flags_of_arguments(forward, taken))
    if arguments:
        return Switch(arguments=arguments)
    for train, evaluate in _PAIRS_OF_METHODS:
        methods = [member(owner, name) for name in (train, evaluate)]
        if all(callable(method) and not required(method) for method in methods):
            return Switch(methods=(train, evaluate))
    for name in _SETTERS:
        method = member(owner, name)
        taken_by = positional(method) if callable(method) else []
        if len(taken_by) == 1 and plain(taken_by[0].name) in _SET_BY:  # and no loop that trains on data
            return Switch(setter=name)
    return Switch(attributes=tuple(_attributes({"": owner, **below})))


def _attributes(objects: Mapping[str, object]) -> Iterator[tuple[str, Flag]]:
    for path, one in objects.items():
        for name, value in getattr(one, "__dict__", {}).items():
            flag = flag_of(name, value) if isinstance(value, (bool, str)) else None
            if flag is not None:
                yield path, flag
