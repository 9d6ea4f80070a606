"""Which tensor of one loop is which of the other: by name, value, order and shape; transposed, split or joined."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import distinct
from gradcheck.trajectory.slots import by_parameter, kinds

# Of the largest element. Two right programs agree to far more in their first step, two other tensors to far less.
CLOSE = 1e-3


@dataclass(frozen=True)
class Link:
    """Tensors of ours that are tensors of theirs.

    Several are joined along ``axis``, on either side; then ours has its axes in the order ``axes`` of theirs, and
    theirs' shape. With ``one_hot`` ours has rows with a single one, where theirs has the place of it. Ours is ``scale``
    times theirs, as a velocity is that has the learning rate in it. What is joined has the samples of the other side in
    the ``order`` given, if any. ``how`` says by what they were matched. ``twins`` are further parameters, of ours and
    of theirs, that begin with the same values and have no other partner: weights that are tied on one side alone.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    how: str
    axis: int = 0
    axes: tuple[int, ...] | None = None
    one_hot: bool = False
    scale: float = 1.0
    order: tuple[int, ...] = ()
    slots: tuple[str, str] = ("", "")
    twins: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def of_ours(self, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
        """Return ours as theirs has it, in ``shape`` if the sizes agree."""
        array = _joined([arrays[name] for name in self.ours], self.axis)
        if self.order and len(self.ours) > 1:
            array = array[list(self.order)]
        if self.one_hot:
            array = array.argmax(axis=-1)
        if self.axes is not None and array.ndim == len(self.axes):
            array = array.transpose(self.axes)
        if self.scale != 1:
            array = array / array.dtype.type(self.scale)
        return array.reshape(shape) if array.size == np.prod(shape, dtype=int) else array

    def of_theirs(self, arrays: Mapping[str, Array]) -> Array:
        """Return theirs, joined."""
        array = _joined([arrays[name] for name in self.theirs], 0 if len(self.theirs) > 1 else self.axis)
        return array[list(self.order)] if self.order and len(self.theirs) > 1 else array

    def to_ours(self, theirs: Mapping[str, Array], ours: Mapping[str, Array]) -> dict[str, Array]:
        """Return theirs in the shapes and types that ours has."""
        array, parts = self.of_theirs(theirs), [ours[name] for name in self.ours]
        if self.scale != 1:
            array = array * self.scale
        whole = _joined(parts, self.axis)
        if self.axes is not None:
            array = array.transpose(np.argsort(self.axes))
        array = array.reshape(whole.shape)
        if len(parts) == 1:
            return {self.ours[0]: array.astype(whole.dtype)}
        ends = np.cumsum([part.shape[self.axis] for part in parts])[:-1]
        pieces = np.split(array, ends, axis=self.axis)
        return {name: piece.astype(part.dtype) for name, piece, part in zip(self.ours, pieces, parts, strict=True)}

    def moved(self, prefix: str, suffix: str = "") -> Link:
        """Return the same link of the names between a prefix and a suffix: of parameters' gradients, say."""
        ours, theirs = (tuple(f"{prefix}{name}{suffix}" for name in side) for side in (self.ours, self.theirs))
        return replace(self, ours=ours, theirs=theirs)

    def without(self, prefix: str) -> Link:
        """Return the same link of the names after a prefix."""
        ours, theirs = (tuple(name.removeprefix(prefix) for name in side) for side in (self.ours, self.theirs))
        return replace(self, ours=ours, theirs=theirs)

    @property
    def is_plain(self) -> bool:
        """Whether both sides have the same name and layout."""
        return self.ours == self.theirs and self.axes is None and not self.one_hot and len(self.ours) == 1


def parameters(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], given: Mapping[str, str | Sequence[str]], tolerance: float
) -> list[Link]:
    """Return the links of parameters, or of buffers, whose values before the first step are given by name.

    Values are the same if they differ by at most ``tolerance`` times the largest: 0 before the first step, more after.

    In this order: ``given`` names of ours by those of theirs; the same name; the same values, also transposed, and also
    where several of one side are one of the other; then, where as many are left on both sides, order and shape.
    """
    matcher = _Matcher(ours, theirs, tolerance)
    for their, named in given.items():
        some = (named,) if isinstance(named, str) else tuple(named)
        if their in theirs and all(our in ours for our in some):
            axes = [axis for axis in range(theirs[their].ndim) if _joins([ours[our] for our in some], axis)]
            fitting = [
                axis for axis in axes if _fits(_joined([ours[our] for our in some], axis).shape, theirs[their].shape)
            ]
            matcher.link(some, (their,), "the names given", fitting[0] if fitting else 0)
    for their in theirs:
        same = next((our for our in matcher.ours if bare(our) == bare(their)), None)
        if same is not None and _fits(ours[same].shape, theirs[their].shape):
            matcher.link((same,), (their,), "name")
    for their in list(matcher.theirs):
        array = theirs[their]
        equal = [our for our in matcher.ours if _tells(array) and _axes(ours[our], array, tolerance) is not None]
        if len(equal) == 1:
            matcher.link((equal[0],), (their,), "value")
    matcher.join()
    matcher.biases()
    matcher.in_order()
    return [matcher.with_twins(link) for link in matcher.links] if tolerance == 0 else matcher.links


_Slots = Mapping[str, list[tuple[str, str]]]  # by parameter, names and slots


def slots(ours: Mapping[str, int], theirs: Mapping[str, int], params: Iterable[Link]) -> list[Link]:
    """Return the links of what optimizers keep for parameters, and of their numbers of steps, by name below ``optim/``.

    Each name comes with the step after which it was first there.

    Of each side the parameter and the slot are read from the name, which may have them in any order, as
    ``exp_avg/0.weight`` or ``W1.m``. Slots of one parameter are the same if they can be called the same (`kinds`), or
    are the only ones left.
    """
    params, found = list(params), list[Link]()
    mine = by_parameter(ours, [name for link in params for name in link.ours])
    other = by_parameter(theirs, [name for link in params for name in link.theirs])
    for link in params:
        if len(link.ours) > 1 or len(link.theirs) > 1:
            found += _fused_slots(link, mine, other)
            continue
        for our, their in _same_slots(mine[link.ours[0]], other[link.theirs[0]]):
            scalar = "step" in kinds(our[1]) and "step" in kinds(their[1])
            axes, called = None if scalar else link.axes, (our[1], their[1])
            found.append(Link((our[0],), (their[0],), "slot", axes=axes, slots=called))
    return list(dict.fromkeys([*found, *_counts(found, mine, other, ours, theirs)]))


def _counts(
    known: Iterable[Link], mine: _Slots, other: _Slots, ours: Mapping[str, int], theirs: Mapping[str, int]
) -> Iterator[Link]:
    """Yield the links of a number of steps that belongs to no parameter: with those that began when it did.

    A parameter that is added later, as by `add_param_group`, has had fewer steps.
    """
    left, right = (
        [name for slots in side.values() for name, slot in slots if "step" in kinds(slot)] for side in (mine, other)
    )
    of_all = [next((name for name, slot in side[""] if "step" in kinds(slot)), None) for side in (mine, other)]
    taken = {name for link in known for name in link.ours}, {name for link in known for name in link.theirs}
    for name in right if of_all[0] is not None else ():
        if name not in taken[1] and theirs[name] == min(theirs[one] for one in right):
            yield Link((str(of_all[0]),), (name,), "slot", slots=("step", "step"))
    for name in left if of_all[0] is None and of_all[1] is not None else ():
        if name not in taken[0] and ours[name] == min(ours[one] for one in left):
            yield Link((name,), (str(of_all[1]),), "slot", slots=("step", "step"))


def shown(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> list[Link]:
    """Return the links of what one step shows besides parameters and their gradients: data, results, their gradients.

    Those of one name and close values; then those of close values, in this first step, where the names differ; then
    those of one name, however far apart; then, where as many are left on both sides, those of the same order and shape.
    What was called several times on one side and once on the other is joined along the batch.
    """
    mine, other = _families(ours, theirs)
    order = _order(mine, other)
    for side in (mine, other):
        for names, array in side.items():
            if len(names) > 1 and len(array) == len(order):
                side[names] = array[list(order)]
    linked: dict[tuple[str, ...], Link] = {}
    free = dict.fromkeys(mine)

    for tolerance, by_name in ((CLOSE, True), (CLOSE, False), (None, True)):
        for their, array in other.items():
            if their in linked:
                continue
            for our in list(free):
                if by_name != (_base(our) == _base(their)) or _phase(our) != _phase(their):
                    continue
                if not by_name and _phase(our) == "data" and {_base(our), _base(their)} <= {"data/x", "data/y"}:
                    continue
                if (layout := _layout(mine[our], array, tolerance)) is not None:
                    linked[their] = replace(layout, ours=our, theirs=their, how="name" if by_name else "value")
                    del free[our]
                    break
    for phase in {_phase(name) for name in free}:
        left = [name for name in free if _phase(name) == phase]
        right = [name for name in other if _phase(name) == phase and name not in linked]
        if len(left) == len(right) and all(mine[a].shape == other[b].shape for a, b in zip(left, right, strict=True)):
            for a, b in zip(left, right, strict=True):
                linked[b] = Link(a, b, "order and shape")
    for their, array in other.items():  # what is the same tensor under two names, as the last result and the model's
        if their not in linked:
            same = next(
                (one for one in linked if _phase(one) == _phase(their) and np.array_equal(other[one], array)), None
            )
            if same is not None:
                linked[their] = replace(linked[same], theirs=their)
    found = [linked[their] for their in other if their in linked]
    return [replace(link, order=order) if max(len(link.ours), len(link.theirs)) > 1 else link for link in found]


def _order(ours: Mapping[tuple[str, ...], Array], theirs: Mapping[tuple[str, ...], Array]) -> tuple[int, ...]:
    """Return the order of joined samples in which they are the other side's, () if they are so as they come.

    Ranks of a distributed run take samples in turn.
    """
    for names, array in ours.items():
        whole = next((one for other, one in theirs.items() if other[0] == names[0] and one.shape == array.shape), None)
        other = next((other for other in theirs if other[0] == names[0]), ())
        if (
            whole is None
            or len(names) == len(other)
            or not names[0].startswith("data/")
            or np.array_equal(array, whole)
        ):
            continue
        joined, single = (array, whole) if len(names) > 1 else (whole, array)
        rows = [[row.tobytes() for row in np.ascontiguousarray(side)] for side in (joined, single)]
        if sorted(rows[0]) == sorted(rows[1]) and len(set(rows[0])) == len(rows[0]):
            return tuple(rows[0].index(row) for row in rows[1])
    return ()


def bare(name: str) -> str:
    """Return a parameter's name without what wrappers put before it."""
    return re.sub(r"^((module|_orig_mod|model|net|self|params)\.)+", "", name)


class _Matcher:
    """Names of both sides that are not linked yet, in order, and the links so far."""

    def __init__(self, ours: Mapping[str, Array], theirs: Mapping[str, Array], tolerance: float) -> None:
        self.arrays, self.tolerance = (ours, theirs), tolerance
        self.ours, self.theirs = dict.fromkeys(ours), dict.fromkeys(theirs)
        self.links: list[Link] = []

    def link(self, ours: tuple[str, ...], theirs: tuple[str, ...], how: str, axis: int = 0) -> None:
        """Link two that fit; the values decide the order of the axes where shapes do not."""
        mine = _joined([self.arrays[0][name] for name in ours], axis)
        other = _joined([self.arrays[1][name] for name in theirs], axis if len(theirs) > 1 else 0)
        axes = _axes(mine, other, self.tolerance)
        if axes is None and mine.shape != other.shape and mine.shape[::-1] == other.shape:
            axes = tuple(range(mine.ndim))[::-1]
        plain = axes is None or axes == tuple(range(mine.ndim))
        self.links.append(Link(ours, theirs, how, axis, None if plain else axes))
        for name in ours:
            self.ours.pop(name, None)
        for name in theirs:
            self.theirs.pop(name, None)

    def join(self) -> None:
        """Link neighbours of one side that are one of the other: queries, keys and values, say, then their biases."""
        for their in list(self.theirs):
            if found := self._parts(list(self.ours), self.arrays[0], self.arrays[1][their]):
                self.link(found[0], (their,), "parts", found[1])
        for our in list(self.ours):
            if found := self._parts(list(self.theirs), self.arrays[1], self.arrays[0][our]):
                self.link((our,), found[0], "parts", found[1])

    def biases(self) -> None:
        """Link biases as the weights beside them are linked, where these are in parts."""
        for link in [link for link in self.links if link.how == "parts"]:
            ours, theirs = (tuple(name.replace("weight", "bias") for name in side) for side in (link.ours, link.theirs))
            if all(name in self.ours for name in ours) and all(name in self.theirs for name in theirs):
                self.link(ours, theirs, "parts")

    def with_twins(self, link: Link) -> Link:
        """Return a link with the parameters left over, of either side, that have the values of its own."""
        found = []
        for left, arrays, names in zip((self.ours, self.theirs), self.arrays, (link.ours, link.theirs), strict=True):
            value = arrays[names[0]]
            alone = len(names) == 1 and _tells(value)
            found.append(tuple(name for name in left if alone and np.array_equal(arrays[name], value)))
        return replace(link, twins=(found[0], found[1]))

    def _parts(self, names: list[str], arrays: Mapping[str, Array], whole: Array) -> tuple[tuple[str, ...], int] | None:
        """Return neighbours, of all that are left or of those of one kind, that are one array when they are joined."""
        groups = [names, *_grouped(names, lambda name: name.rpartition(".")[2])]
        groups += _grouped(names, lambda name: str(arrays[name].shape))
        found: dict[tuple[str, ...], int] = {}
        for some, axis in ((part, axis) for group in groups for part in _runs(group) for axis in range(whole.ndim)):
            parts = [arrays[name] for name in some]
            if sum(part.size for part in parts) != whole.size or not _joins(parts, axis):
                continue
            joined = _joined(parts, axis)
            if _tells(whole) and _axes(joined, whole, self.tolerance) is not None:
                return some, axis
            if joined.shape == whole.shape:
                found.setdefault(some, axis)
        return next(iter(found.items())) if len(found) == 1 else None

    def in_order(self) -> None:
        """Link those of the same shape, in order, if each side has as many of it left."""
        left: dict[tuple[int, ...], list[str]] = defaultdict(list)
        right: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for side, names, arrays in ((left, self.ours, self.arrays[0]), (right, self.theirs, self.arrays[1])):
            for name in names:
                side[_class(arrays[name].shape)].append(name)
        for shape, theirs in right.items():
            if len(left[shape]) == len(theirs):
                for our, their in zip(left[shape], theirs, strict=True):
                    self.link((our,), (their,), "order and shape")


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return list(groups.values())


def _runs(names: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield all neighbours, two or more."""
    for start in range(len(names)):
        for end in range(start + 2, len(names) + 1):
            yield tuple(names[start:end])


def _families(
    ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> tuple[dict[tuple[str, ...], Array], dict[tuple[str, ...], Array]]:
    """Return what both show, joined along the batch where one side has more calls of a name than the other."""
    calls = [_calls(side) for side in (ours, theirs)]
    most = [max((len(names) for names in side.values()), default=1) for side in calls]
    found: list[dict[tuple[str, ...], Array]] = []
    for own, side, arrays in ((0, calls[0], ours), (1, calls[1], theirs)):
        whole: dict[tuple[str, ...], Array] = {}
        for base, names in side.items():
            other = calls[1 - own].get(base)
            fewer = len(other) < len(names) if other is not None else most[1 - own] < len(names)
            if fewer and _joins([arrays[name] for name in names], 0):
                whole[tuple(names)] = _joined([arrays[name] for name in names], 0)
            else:
                whole |= {(name,): arrays[name] for name in names}
        found.append(whole)
    return found[0], found[1]


def _calls(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[name.partition("@")[0]].append(name)
    return found


def _layout(ours: Array, theirs: Array, tolerance: float | None) -> Link | None:
    """Return how ours is laid out as theirs, with values that are close, as a link without names; None if it is not."""
    plain = Link((), (), "")
    if ours.shape == theirs.shape and tolerance is None:
        return plain
    if _is_one_hot(ours) and theirs.shape == ours.shape[:-1] and theirs.dtype.kind in "iu":
        labels = np.array_equal(ours.argmax(axis=-1), theirs)
        return replace(plain, one_hot=True) if labels or tolerance is None else None
    if tolerance is None:
        return plain if ours.size == theirs.size and ours.shape[:1] == theirs.shape[:1] else None
    axes = _axes(ours, theirs, tolerance)
    if axes is None:
        return None
    return plain if axes == tuple(range(ours.ndim)) else replace(plain, axes=axes)


def _axes(ours: Array, theirs: Array, tolerance: float) -> tuple[int, ...] | None:
    """Return the order of ours' axes in which its values are theirs, to a share of the largest, or None."""
    if ours.size != theirs.size or ours.size == 0:
        return None
    straight = tuple(range(ours.ndim))
    orders = dict.fromkeys([straight, straight[::-1], (*straight[:2][::-1], *straight[2:])])
    if straight and ours.ndim > 2:
        orders[(0, ours.ndim - 1, *range(1, ours.ndim - 1))] = None  # channels last, as channels first
        orders[(0, *range(2, ours.ndim), 1)] = None
    for axes in orders:
        turned = ours.transpose(axes)
        if turned.shape != theirs.shape and _class(turned.shape) != _class(theirs.shape) and turned.ndim == theirs.ndim:
            continue
        apart = np.abs(np.subtract(turned.reshape(theirs.shape), theirs, dtype=np.float64))
        if np.all(apart <= tolerance * np.abs(theirs).max()):
            return axes
    return None


def _fits(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    return _class(ours) == _class(theirs)


def _class(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of 1, the same for a matrix and its transpose."""
    long = tuple(extent for extent in shape if extent != 1)
    return min(long, long[::-1])


def _tells(array: Array) -> bool:
    """Return whether the values of an array tell it from others."""
    return bool(distinct(array) > 2)


def _is_one_hot(array: Array) -> bool:
    return array.ndim > 1 and bool(np.all((array == 0) | (array == 1)) and np.all(array.sum(axis=-1) == 1))


def _joined(parts: list[Array], axis: int) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)


def _joins(parts: list[Array], axis: int) -> bool:
    shapes = [part.shape for part in parts]
    return all(len(shape) > axis for shape in shapes) and all(
        len(a) == len(b) and a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :] for a, b in pairwise(shapes)
    )


def _same_slots(
    ours: list[tuple[str, str]], theirs: list[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Yield the slots of one parameter that are the same on both sides."""
    left, right = dict.fromkeys(ours), dict.fromkeys(theirs)
    for known in (False, True):
        for their in list(right):
            same = [
                our for our in left if _last(our[1]) == _last(their[1]) or (known and kinds(our[1]) & kinds(their[1]))
            ]
            if same:
                del left[same[0]], right[their]
                yield same[0], their
    if len(left) == len(right) == 1:
        yield next(iter(left)), next(iter(right))


def _fused_slots(link: Link, ours: _Slots, theirs: _Slots) -> Iterator[Link]:
    """Yield the slots of parameters of which several are one on the other side; each has its own number of steps."""
    for _, their_slot in theirs[link.theirs[0]]:
        for _, our_slot in ours[link.ours[0]]:
            same = kinds(our_slot) & kinds(their_slot)
            mine, other = (
                tuple(next((name for name, slot in side[param] if slot == own), "") for param in params)
                for side, params, own in ((ours, link.ours, our_slot), (theirs, link.theirs, their_slot))
            )
            if not same or not all(mine) or not all(other):
                continue
            if same == {"step"}:
                called = (our_slot, their_slot)
                yield from (Link((our,), (their,), "slot", slots=called) for our in mine for their in other)
            else:
                yield replace(link, ours=mine, theirs=other, how="slot", slots=(our_slot, their_slot))


def _last(slot: str) -> str:
    return re.split(r"[./]", slot)[-1].lower()


def _base(names: tuple[str, ...]) -> str:
    return names[0].partition("@")[0] if len(names) > 1 else names[0]


def _phase(names: tuple[str, ...]) -> str:
    return names[0].partition("/")[0]
