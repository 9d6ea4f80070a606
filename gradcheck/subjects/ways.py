"""Which methods of an object go forward and back, and which flag asks a function for its derivative: by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from gradcheck.subjects.attributes import member
from gradcheck.subjects.signatures import BACKWARDS, FORWARDS, WHOLES, parameters_of, plain, required

# Of what else has a gradient in its name: zero_grad, update_gradients, numerical_gradient.
OTHERS = {
    "zero", "clear", "reset", "set", "update", "clip", "apply", "check", "add", "register", "accumulate", "average",
    "numerical", "numeric", "init", "initialize", "load", "save", "step", "print", "plot", "has", "is", "requires",
    "no", "sync", "test", "count", "collect", "attach", "backup", "background", "backend",
    "backbone", "backlog", "backtrack",
}  # fmt: skip
GOES_BACK = re.compile(r"_?(back|bprop|bwd|vjp)\w*|[a-z]+_(backward|backprop|back|bwd)")
DERIVES = re.compile(
    r"(d|grad|gradient|deriv|derivative|prime)_\w+|\w+_(d|prime|deriv|derivative|grad|gradient)|deriv\w*|\w*prime"
    r"|grad(ient)?s?|d[a-z]+"
)
MARKS = re.compile(r"back(ward)?s?|deriv(ative)?(_of)?|prime|grad(ient)?s?(_of)?|bprop|bwd|^d(?=_)|(?<=_)d$")
COMPUTES = re.compile(r"(compute|calc|calculate)_?((weight|param|parameter)s?_)?(grads?|gradients?|derivatives?)")
LAST_FORWARDS = (
    "predict", "function", "func", "fn", "activate", "activation", "value", "evaluate", "transform", "output", "run",
    "infer", "inference", "calc", "calculate", "process", "fire",
)  # fmt: skip

FORWARD_WORDS = ("", "forward", "for", "fwd", "fprop", "function", "f", "loss", "cost", "value", "output")

FLAGS = {
    "derivative", "deriv", "derive", "derivate", "prime", "grad", "gradient", "diff", "isderivative", "isprime",
    "isgrad", "returnderivative", "returngrad", "returngradient", "d", "dx", "backward", "back", "getderivative",
    "usederivative",
}  # fmt: skip


def derives(name: str) -> bool:
    """Return whether a function's name says that it is a derivative: ``prime``, ``d_elu``, ``gradient``."""
    return re.fullmatch(DERIVES, name.strip("_").lower()) is not None


def computes_gradients(owner: object) -> list[str]:
    """Return the methods without arguments whose names say that they compute gradients: ``compute_gradients``."""
    return [name for name in _methods(owner)
            if re.fullmatch(COMPUTES, name.lower()) and not required(getattr(owner, name))]  # fmt: skip


def way_back(owner: object, besides: str = "") -> str:
    """Return the name of the method that goes back: of the usual names the first, else the one that looks like one.

    Empty if there is none, or if several look alike.
    """
    usual = next((name for name in BACKWARDS if name != besides and callable(member(owner, name))), "")
    if usual:
        return usual
    own = [name for name in _methods(owner) if name != besides and name not in (*FORWARDS, *WHOLES)]
    looks = [name for name in own if _first(name) not in OTHERS]
    back = [name for name in looks if re.fullmatch(GOES_BACK, name.lower())]
    of_another = [name for name in looks if (name in back or derives(name)) and _partner(name, _methods(owner))]
    together = any(callable(member(owner, name)) for name in WHOLES if name != "__call__")
    for found in (of_another, *([] if together else [back, [name for name in looks if derives(name)]])):
        if len(found) == 1:
            return found[0]
    return ""


def way_forward(owner: object, back: str = "", usual: Sequence[str] = FORWARDS) -> str:
    """Return the name of the method that goes forward, where ``back`` is the one that goes back; empty if none."""
    own = [name for name in _methods(owner) if name != back]
    if back and back not in BACKWARDS and (partner := _partner(back, own)):
        return partner
    usually = next((name for name in usual if name != back and callable(member(owner, name))), "")
    forwards = [name for name in own if re.fullmatch(r"(for(?!mat|get|ce|m_|ce_)|fwd|fprop|feed)\w+", name.lower())]
    if usually or len(forwards) == 1:
        return usually or forwards[0]
    return _partner(back, own) or next((name for name in LAST_FORWARDS if name in own), "")


def derivative_flag(function: Callable[..., object]) -> str:
    """Return the name of the argument, false by default, that asks a function for its derivative; empty if none."""
    return next(
        (
            each.name for each in parameters_of(function)
            if plain(each.name) in FLAGS and type(each.default) in (bool, int) and not each.default
        ),
        "",
    )  # fmt: skip


def _partner(back: str, names: Iterable[str]) -> str:
    """Return the name that is left without what says that ``back`` goes back: ``relu`` of ``relu_prime``."""
    marked = back.strip("_").lower()
    rest = {plain(re.sub(MARKS, word, marked)) for word in FORWARD_WORDS}
    rest |= {plain(marked[1:])} if marked[:1] == "d" else set()
    return next((name for name in names if plain(name) in rest - {"", plain(marked)}), "")


def _methods(owner: object) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_") and callable(member(owner, name))]


def _first(name: str) -> str:
    return re.split(r"_|(?<=[a-z])(?=[A-Z])", name.strip("_"))[0].lower()
