"""Forward passes that are right but for one thing, which is all that most faults of a layer or a loss need to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients

Forward = Callable[..., tuple[Array, Callable[[Array], Any]]]


class Pass(NamedTuple):
    """What the right class, of a layer or a loss, makes of its inputs, and its pullback."""

    subject: Any
    inputs: tuple[Array, ...]
    context: Context
    y: Array
    right: Callable[[Array], Any]

    @property
    def x(self) -> Array:
        return self.inputs[0]


def with_pullback(wrong: Callable[[Pass, Array], Any]) -> Forward:
    """Return a forward pass that is right but for its pullback."""
    return _pass(lambda at: (at.y, lambda dy: wrong(at, dy)))


def with_dx(wrong: Callable[[Pass, Array], Array]) -> Forward:
    """Return a forward pass that is right but for the gradient of its input."""
    return with_pullback(lambda at, dy: (wrong(at, dy), at.right(dy)[1]))


def with_gradient(name: str, wrong: Callable[[Pass, Array], Array]) -> Forward:
    """Return a forward pass that is right but for the gradient of one parameter, where it has one."""

    def pullback(at: Pass, dy: Array) -> tuple[Array, Gradients]:
        dx, grads = at.right(dy)
        return dx, grads | ({name: wrong(at, dy)} if name in grads else {})

    return with_pullback(pullback)


def with_factor(factor: Callable[[Pass], Any]) -> Forward:
    """Return a forward pass whose output is multiplied by a number, consistently."""
    return _pass(lambda at: (at.y * factor(at), lambda dy: at.right(dy * factor(at))))


def with_weight(arranged: Callable[[Array], Array], back: Callable[[Array], Array]) -> Forward:
    """Return a forward pass that takes its weight in another arrangement, and brings its gradient back from that."""

    def forward(self: Any, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:  # noqa: ANN401
        y, right = _right(self.replace_arrays({"weight": arranged(self.weight)}), forward)(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": back(grads["weight"])}

        return y, backward

    return forward


def given(
    *,
    layer: Callable[[Any], Any] = lambda right: right,
    x: Callable[[Any, Array], Array] = lambda _, x: x,
    context: Callable[[Context], Context] = lambda context: context,
) -> Forward:
    """Return the forward pass of another layer, input or context than is asked for: wrong, consistently."""

    def forward(self: Any, array: Array, within: Context = EVALUATION) -> tuple[Array, Callable[[Array], Any]]:  # noqa: ANN401
        return _right(layer(self), forward)(x(self, array), context(within))

    return forward


def _pass(wrong: Callable[[Pass], tuple[Array, Callable[[Array], Any]]]) -> Forward:
    """Return the forward pass that is made of the right one."""

    def forward(self: Any, *arguments: Any) -> tuple[Array, Callable[[Array], Any]]:  # noqa: ANN401  of both kinds
        *inputs, context = arguments if isinstance(arguments[-1], Context) else (*arguments, EVALUATION)
        return wrong(Pass(self, tuple(inputs), context, *_right(self, forward)(*inputs, context)))

    return forward


def _right(subject: Any, wrong: Forward) -> Forward:  # noqa: ANN401  a layer or a loss
    """Return the forward pass that a wrong one takes the place of, or that of a subject without it."""
    faulty: Any = next((kind for kind in type(subject).__mro__ if vars(kind).get("forward") is wrong), None)
    return super(faulty, subject).forward if faulty else subject.forward
