"""Initialisers with one mistake each, and the property that has to see it."""

from __future__ import annotations

import math

import numpy as np

from gradcheck.contract import Array
from nets.initializers import (
    Constant,
    KaimingNormal,
    KaimingUniform,
    Normal,
    Uniform,
    XavierNormal,
    XavierUniform,
    ZeroRow,
    fans_of,
    gain_of,
)
from tests.nets.faults.fault import caught_by

DRAWS = "draws_agree_with_twin"
GENERATOR = "draws_follow_their_generator"

Fans = tuple[int, int] | None


@caught_by(DRAWS, name="INI-03")
class DeviationForBound(XavierUniform):
    """Uses the standard deviation as the bound of the uniform distribution."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans) / math.sqrt(3)


@caught_by(DRAWS)
class FansOfABias(XavierNormal):
    """Uses the length of a bias as its fans."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, (shape[0], shape[0]) if len(shape) < 2 else fans)


@caught_by(DRAWS)
class BoundForDeviation(XavierNormal):
    """Uses the bound of the uniform distribution as the standard deviation."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans) * math.sqrt(3)


@caught_by(DRAWS, name="INI-03")
class NormalByAnotherName(XavierUniform):
    """Draws normal numbers of the right variance, not uniform ones."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return XavierNormal(self.gain).draw(shape, rng, fans)


@caught_by(DRAWS, tensor="correlation of neighbours")
class Sorted(Normal):
    """Draws the right numbers, but sorts them."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return np.sort(super().draw(shape, rng, fans), axis=None).reshape(shape)


@caught_by(DRAWS)
class UniformByAnotherName(Normal):
    """Draws uniform numbers of the right variance, not normal ones."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return rng.uniform(-1, 1, shape) * math.sqrt(3) * self.std + self.mean


@caught_by(DRAWS)
class CutOff(Normal):
    """Redraws numbers beyond three deviations, as a truncated normal does."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        drawn = super().draw(shape, rng, fans)
        while np.any(beyond := np.abs(drawn - self.mean) > 3 * self.std):
            drawn[beyond] = rng.normal(self.mean, self.std, int(beyond.sum()))
        return drawn


@caught_by(DRAWS, name="INI-03")
class WithoutTheTwo(KaimingNormal):
    """Leaves out the 2 in He's variance, which makes up for the half that a ReLU cuts off."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        shrunk = math.sqrt(2) if self.nonlinearity in ("relu", "leaky_relu") else 1.0
        return super().draw(shape, rng, fans) / shrunk


@caught_by(DRAWS, name="INI-04")
class FansSwapped(KaimingUniform):
    """Reads a weight as (in, out): fan-in and fan-out are exchanged."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        inwards, outwards = fans or fans_of(shape)
        return super().draw(shape, rng, (outwards, inwards))


@caught_by(DRAWS)
class AlwaysFanIn(KaimingNormal):
    """Ignores ``mode``."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        inwards, _ = fans or fans_of(shape)
        return super().draw(shape, rng, (inwards, inwards))


@caught_by(DRAWS)
class ChannelsOnly(KaimingUniform):
    """Uses channels as fans, without the pixels of the kernel."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans or (shape[1], shape[0]))


@caught_by(DRAWS)
class KernelInOneFan(XavierNormal):
    """Counts the pixels of the kernel in the fan-in, and not in the fan-out."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans or (math.prod(shape[1:]), shape[0]))


@caught_by(DRAWS)
class FanOfOneMore(XavierUniform):
    """Counts the bias as one more input."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        inwards, outwards = fans or fans_of(shape)
        return super().draw(shape, rng, (inwards + 1, outwards))


@caught_by(DRAWS)
class FansOfItsOwn(KaimingUniform):
    """Computes the fans from the array that it fills, even if other fans are given."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans if len(shape) < 2 else None)


@caught_by(DRAWS, tensor="correlation of the two halves")
class Antithetic(Normal):
    """Mirrors the first half of the numbers, so that the mean is exact."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        drawn = super().draw(shape, rng, fans).ravel()
        half = drawn.size // 2
        drawn[half : 2 * half] = 2 * self.mean - drawn[:half]
        return drawn.reshape(shape)


@caught_by(DRAWS)
class GainSquared(XavierNormal):
    """Multiplies the deviation by the square of the gain, which belongs to the variance."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans) * self.gain


@caught_by(DRAWS)
class GainIgnored(XavierUniform):
    """Ignores the gain."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans) / self.gain


@caught_by(DRAWS)
class SlopeIgnored(KaimingUniform):
    """Takes a leaky rectifier for one without a slope."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return KaimingUniform(0.0, self.mode, self.nonlinearity).draw(shape, rng, fans)


@caught_by(DRAWS)
class SlopeOfAll(KaimingNormal):
    """Uses the slope in the gain of every non-linearity, but only leaky ReLU has one."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        leaky = gain_of("leaky_relu", self.a) / gain_of(self.nonlinearity, self.a)
        return super().draw(shape, rng, fans) * leaky


@caught_by(DRAWS)
class VarianceForDeviation(Normal):
    """Treats the standard deviation as a variance."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return rng.normal(self.mean, math.sqrt(self.std), shape)


@caught_by(DRAWS)
class Centred(Normal):
    """Ignores the mean."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return rng.normal(0.0, self.std, shape)


@caught_by(DRAWS)
class Symmetric(Uniform):
    """Draws between -b and b, whatever a is."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return rng.uniform(-self.b, self.b, shape)


@caught_by(DRAWS, tensor="element")
class Rounded(Constant):
    """Rounds the value to float32, which changes 0.1."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans).astype(np.float32).astype(np.float64)


@caught_by(DRAWS)
class Single(Uniform):
    """Returns float32."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans).astype(np.float32)


@caught_by(DRAWS)
class Transposed(XavierUniform):
    """Returns the weight of the layer's transpose."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, rng, fans).T


@caught_by(DRAWS)
class OneRowForAll(Uniform):
    """Draws one row and repeats it: the units of a layer start equal, and stay so."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        row = super().draw(shape[1:], rng, fans)
        return np.broadcast_to(row, shape).copy() if len(shape) > 1 else super().draw(shape, rng, fans)


@caught_by(DRAWS)
class FirstColumn(ZeroRow):
    """Puts the zeros into a column."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        drawn = self.rule.draw(shape, rng, fans)
        drawn[:, self.row] = 0
        return drawn


@caught_by(DRAWS)
class NothingZero(ZeroRow):
    """Forgets the row of zeros."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return self.rule.draw(shape, rng, fans)


@caught_by(GENERATOR)
class Global(Normal):
    """Draws from NumPy's global generator."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return np.random.normal(self.mean, self.std, shape)  # noqa: NPY002  the fault


@caught_by(GENERATOR)
class OfItsOwn(Uniform):
    """Makes a new generator for every draw."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, np.random.default_rng(), fans)


@caught_by(DRAWS, GENERATOR)
class OneSeedForAll(Normal):
    """Makes a generator with a fixed seed: the same numbers in every layer of every network."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: Fans = None) -> Array:
        return super().draw(shape, np.random.default_rng(0), fans)
