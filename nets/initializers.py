"""Initial weights, and the registry of the rules that draw them.

Every rule draws float64; a float32 network starts from the same numbers, rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradcheck.contract import Array, Case, Initializer, Layer
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

FanMode = Literal["fan_in", "fan_out"]

# Torch's names of what is linear, and passes everything as it comes.
LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)

# Of torch's rules that draw.
GENERATOR = {"generator": "draw is given a NumPy generator"}


@dataclass(frozen=True)
class Constant(Initializer):
    """The same number ``val`` everywhere.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.constant_
    """

    val: float

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return np.full(shape, self.val, np.float64)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.constant_(tensor, self.val)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        return _cases(st.builds(cls, st.sampled_from([0.0, 1.0, -0.25, 0.1])), VECTOR + WEIGHTS)


@refuses(**GENERATOR)
@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform in [``a``, ``b``).

    Raises ValueError for an ``a`` above ``b``.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.uniform_
    """

    a: float = 0.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not self.a <= self.b:
            raise ValueError(f"Uniform needs a of at most b, got {self.a} and {self.b}")

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.uniform(self.a, self.b, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.uniform_(tensor, self.a, self.b)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        return _cases(
            st.builds(cls, st.sampled_from([0.0, -1.0, -0.05]), st.sampled_from([1.0, 0.25])), VECTOR + WEIGHTS
        )


@refuses(**GENERATOR)
@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with the given ``mean`` and deviation ``std``.

    Raises ValueError for a negative deviation.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.normal_
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise ValueError(f"Normal needs std of at least 0, got {self.std}")

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.normal(self.mean, self.std, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.normal_(tensor, self.mean, self.std)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        return _cases(st.builds(cls, st.sampled_from([0.0, 0.5, -2.0]), st.sampled_from([1.0, 0.01])), VECTOR + WEIGHTS)


@refuses(**GENERATOR)
@dataclass(frozen=True)
class XavierNormal(Initializer):
    """Normal with mean 0 and variance ``gain^2 * 2 / (fan_in + fan_out)``; Glorot and Bengio (2010), equation 12.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.xavier_normal_
    """

    gain: float = 1.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.normal(0.0, self.gain * math.sqrt(2.0 / _both(self, fans or fans_of(shape))), shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.xavier_normal_(tensor, self.gain)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        return _cases(st.builds(cls, st.sampled_from([1.0, 5 / 3, 0.5])), WEIGHTS + BESIDE)


@refuses(**GENERATOR)
@dataclass(frozen=True)
class XavierUniform(Initializer):
    """Uniform in +-``gain * sqrt(6 / (fan_in + fan_out))``; Glorot and Bengio (2010), equation 16.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.xavier_uniform_
    """

    gain: float = 1.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        bound = self.gain * math.sqrt(6.0 / _both(self, fans or fans_of(shape)))
        return rng.uniform(-bound, bound, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.xavier_uniform_(tensor, self.gain)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        return _cases(st.builds(cls, st.sampled_from([1.0, 5 / 3, 0.5])), WEIGHTS + BESIDE)


@refuses(**GENERATOR)
@dataclass(frozen=True)
class KaimingNormal(Initializer):
    """Normal with mean 0 and deviation ``gain / sqrt(fan)``; He et al. (2015), equation 14.

    ``fan`` is the one that ``mode`` names, ``gain`` what `gain_of` says for ``nonlinearity`` and the slope ``a``.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.kaiming_normal_
    """

    a: float = 0.0
    mode: FanMode = "fan_in"
    nonlinearity: str = "leaky_relu"

    def __post_init__(self) -> None:
        _require_mode(self)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.normal(0.0, _deviation(self, fans or fans_of(shape)), shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.kaiming_normal_(tensor, self.a, self.mode, self.nonlinearity)  # type: ignore[arg-type]  # a name

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return _kaiming_cases(cls)


@refuses(**GENERATOR)
@dataclass(frozen=True)
class KaimingUniform(Initializer):
    """Uniform in +-``gain * sqrt(3 / fan)``; He et al. (2015), with the variance of `KaimingNormal`.

    With a = sqrt(5) that is ``1 / sqrt(fan_in)``, by which torch fills the weights and biases of its layers.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.kaiming_uniform_
    """

    a: float = 0.0
    mode: FanMode = "fan_in"
    nonlinearity: str = "leaky_relu"

    def __post_init__(self) -> None:
        _require_mode(self)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        bound = math.sqrt(3.0) * _deviation(self, fans or fans_of(shape))
        return rng.uniform(-bound, bound, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.kaiming_uniform_(tensor, self.a, self.mode, self.nonlinearity)  # type: ignore[arg-type]  # a name

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return _kaiming_cases(cls)


@dataclass(frozen=True)
class ZeroRow(Initializer):
    """Another rule's numbers, but for one row of zeros: that of an embedding's padding."""

    rule: Initializer = Normal()
    row: int = 0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        drawn = self.rule.draw(shape, rng, fans)
        drawn[self.row] = 0
        return drawn

    def twin(self, tensor: torch.Tensor) -> None:
        self.rule.twin(tensor)
        tensor.data[self.row] = 0

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        rules = st.sampled_from([Normal(), Uniform(-1.0, 1.0), XavierUniform()])
        return _cases(st.builds(cls, rules, st.sampled_from([0, 1, -1])), WEIGHTS)


INITIALIZERS: tuple[type[Initializer], ...] = (
    Constant,
    Uniform,
    Normal,
    XavierNormal,
    XavierUniform,
    KaimingNormal,
    KaimingUniform,
    ZeroRow,
)


def fans_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in, ...): connections into and out of a unit.

    Raises ValueError for fewer than two axes, which have no fans.
    """
    if len(shape) < 2:
        raise ValueError(f"fan-in and fan-out need a weight of shape (out, in, ...), got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def gain_of(nonlinearity: str, a: float = 0.01) -> float:
    """Return torch's gain: the deviation by which a layer keeps the size of what passes the non-linearity behind it.

    ``a`` is the negative slope of a leaky rectifier. Raises ValueError for a non-linearity that torch does not name.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain
    """
    gains = {
        **dict.fromkeys(LINEAR, 1.0),
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1 + a * a)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"the gain is known for {', '.join(gains)}, got {nonlinearity!r}")
    return gains[nonlinearity]


def initialize(
    layer: Layer, rng: np.random.Generator, weights: Initializer | None = None, biases: Initializer | None = None
) -> None:
    """Fill every parameter of ``layer`` in place, in order of name.

    Weights of two or more axes are drawn by ``weights`` and the biases beside them by ``biases``; where that is None,
    and everything else, as torch fills them. Raises ValueError for a parameter of which neither says how, and TypeError
    for what is no generator or no initialiser.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"initialize needs a generator, such as np.random.default_rng(0), got {rng!r:.60}")
    for role, given in (("weights", weights), ("biases", biases)):
        if not isinstance(given, Initializer | None):
            raise TypeError(f"initialize needs an initialiser as {role}, such as KaimingNormal(), got {given!r:.60}")
    for name, (array, rule, fans) in sorted(_filled(layer, weights, biases), key=lambda item: item[0]):
        if rule is None:
            raise ValueError(f"{name} of {type(layer).__name__} has no initialiser: give its field one by parameter()")
        array[...] = rule.draw(array.shape, rng, fans)


def _filled(
    layer: Layer, weights: Initializer | None, biases: Initializer | None, path: str = ""
) -> Iterator[tuple[str, tuple[Array, Initializer | None, tuple[int, int] | None]]]:
    """Yield every parameter with its rule and the fans of its layer's weight."""
    own = {name: array for name, array in layer.parameters().items() if "." not in name}
    matrix = "weight" in own and own["weight"].ndim > 1
    fans = fans_of(own["weight"].shape) if matrix else None
    given = {"weight": weights, "bias": biases} if matrix else {}
    for name, array in own.items():
        yield path + name, (array, given.get(name) or layer.initial(name), fans)
    for name, child in layer.children():
        yield from _filled(child, weights, biases, f"{path}{name}.")


def _deviation(rule: KaimingNormal | KaimingUniform, fans: tuple[int, int]) -> float:
    fan = fans[0 if rule.mode == "fan_in" else 1]
    if not fan:
        raise ValueError(f"{type(rule).__name__} needs a {rule.mode} above 0, got fans (in, out) of {fans}")
    return gain_of(rule.nonlinearity, rule.a) / math.sqrt(fan)


def _both(rule: XavierNormal | XavierUniform, fans: tuple[int, int]) -> int:
    if not sum(fans):
        raise ValueError(f"{type(rule).__name__} needs fans above 0, got fans (in, out) of {fans}")
    return sum(fans)


def _require_mode(rule: KaimingNormal | KaimingUniform) -> None:
    gain_of(rule.nonlinearity, rule.a)
    if rule.mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{type(rule).__name__} needs mode fan_in or fan_out, got {rule.mode!r}")


def _kaiming_cases(cls: type[KaimingNormal] | type[KaimingUniform]) -> SearchStrategy[Case]:
    from hypothesis import strategies as st

    slopes, fans = st.sampled_from([0.0, 0.5, math.sqrt(5.0)]), st.sampled_from(["fan_in", "fan_out"])
    # Half of them of the only one that has a slope.
    gains = st.just("leaky_relu") | st.sampled_from(["relu", "tanh", "selu", "sigmoid", *LINEAR])
    return _cases(st.builds(cls, slopes, fans, gains), WEIGHTS + BESIDE)


Shape = tuple[int, ...]
WEIGHTS: list[tuple[Shape, ...]] = [((100, 40),), ((30, 120),), ((40, 20, 5),), ((20, 16, 3, 5),)]
VECTOR: list[tuple[Shape, ...]] = [((4000,),)]
# Biases, or what else is not the weight, with the weight.
BESIDE: list[tuple[Shape, ...]] = [((4000,), (40, 100)), ((3600,), (20, 12, 3, 5)), ((60, 80), (40, 20, 6))]


def _cases(rules: SearchStrategy[Initializer], shapes: list[tuple[Shape, ...]]) -> SearchStrategy[Case]:
    """Draw arrays of some thousands of elements, of other fans in than out."""
    from hypothesis import strategies as st

    inputs = st.sampled_from(shapes).map(lambda each: tuple(np.zeros(shape) for shape in each))
    return st.builds(Case, rules, inputs, st.integers(0, 2**32 - 1))


# What torch's layers fill their weights and biases by: both uniform in +-1 / sqrt(fan_in).
TORCH_DEFAULT = KaimingUniform(a=math.sqrt(5.0))
