"""Engines are tried before they are judged: copies of them step, load and step again, on the first batches of a run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import PHASES, Array, Context, Key
from gradcheck.numerics.rounding import FACTOR, Recorder, largest_difference, nudged
from gradcheck.subjects.attributes import AdapterError, raised
from gradcheck.trajectory.border import Border, Terms, array_of, is_converted
from gradcheck.trajectory.divergence import unlike_arrays
from gradcheck.trajectory.engine import STATE, Batch, Engine, State, Step, StepError, below, observed, tensors_of
from gradcheck.trajectory.generators import held, moved, put_back, seeded, standing
from gradcheck.trajectory.judgement import exact, judged
from gradcheck.trajectory.unmeasured import unexplained

TRIED = 2  # batches on which copies of an engine are tried before a run

# Nudged steps that say how far rounding moves a step, where it differs from the same step taken otherwise.
SHADOWS_OF_A_TRIAL = 24

SIDES = {"ours": "ours", "theirs": "the reference"}


class Trait(StrEnum):
    """What was found out about an engine; the comments list what a `Note` names."""

    OWN_ARRAYS = "own arrays"  # keys of the state: `state()` returned arrays that the next step changed
    KEPT_ARRAYS = "kept arrays"  # keys: `load` kept arrays that the next step changed
    CONVERTED = "converted"  # what was no array
    RENAMED = "renamed"  # keys of the state, and what they were taken for
    COUNTED = "counted"  # the state had no number of steps
    ONE_OBJECT = "one object"  # both sides were the same object
    UNNAMED_GRADIENTS = "unnamed gradients"  # gradients that have no parameter of their name
    UNKNOWN_PHASES = "unknown phases"  # taps
    NO_TAPS = "no taps"  # of ours, whose rounding is to be measured
    NO_GRADIENTS = "no gradients"
    HIDDEN = "hidden"  # tensors of a step that differ after `load(state())`
    OWN_GENERATOR = "own generator"  # generators that the engine holds and draws from
    GLOBAL_GENERATOR = "global generator"  # generators that were put back before each step
    NOT_REPEATABLE = "not repeatable"  # tensors that differ where a step is taken twice


class Note(NamedTuple):
    """What was found out about the engine of a side, ``ours`` or ``theirs``, and the names that belong to it."""

    side: str
    trait: Trait
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """An engine as it can be compared, and what was found out about it.

    ``grads`` are the names of its gradients, ``moving`` the parameters that its first step moved, and ``draws`` says
    where the generators that it draws from stand after that step. All are empty if it could not be taken.
    """

    engine: Engine
    notes: tuple[Note, ...] = ()
    grads: tuple[str, ...] = ()
    moving: frozenset[str] = frozenset()
    draws: frozenset[str] = frozenset()

    def has(self, trait: Trait) -> bool:
        """Return whether something was found."""
        return any(note.trait is trait for note in self.notes)

    @property
    def hides(self) -> bool:
        """Whether steps depend on what no state shows."""
        return self.has(Trait.HIDDEN) or self.has(Trait.OWN_GENERATOR)

    def on(self, terms: Terms, *notes: Note) -> Tried:
        """Return the engine behind a border, with further notes."""
        return replace(self, engine=Border(self.engine, terms) if terms else self.engine, notes=self.notes + notes)


def drawn(batches: Iterable[Any]) -> Iterator[Batch]:
    """Yield batches with arrays of their own; raises `AdapterError` for what is no `Batch`."""
    for given in batches:
        if not (isinstance(given, (tuple, list)) and len(given) == 3):
            kind = (
                f"{type(given).__name__} of {len(given)}" if isinstance(given, (tuple, list)) else type(given).__name__
            )
            raise AdapterError(f"a batch is a {kind}; write Batch(x, y, lr), whose last is the learning rate")
        x, y, lr = given
        inputs, targets = (value if value is None else array_of(value, "part of a batch") for value in (x, y))
        yield Batch(np.array(inputs), np.array(targets), float(lr))


def require_engine(engine: object, side: str) -> None:
    """Raise `AdapterError` for what is no instance of `Engine`, or cannot be copied."""
    if isinstance(engine, type):
        raise AdapterError(f"{SIDES[side]} is the class {engine.__name__}; give an instance, {engine.__name__}(...)")
    name = type(engine).__name__
    if not isinstance(engine, Engine):
        raise AdapterError(
            f"{SIDES[side]} is a {name}, which is no Engine; derive its class from gradcheck.Engine, with state(), "
            "load(state) and step(x, y, lr, context)"
        )
    try:
        copied = copy.deepcopy(engine)
    except Exception as error:  # noqa: BLE001  the engine is anybody's
        raise AdapterError(
            f"{SIDES[side]} cannot be copied, copy.deepcopy({name}) raises {raised(error)}; write a __deepcopy__ that "
            "returns an independent copy"
        ) from None
    if copied is engine:
        raise AdapterError(
            f"{SIDES[side]} cannot be copied, copy.deepcopy({name}) returns the engine itself; write a __deepcopy__ "
            "that returns an independent copy"
        )


def tried(engine: Engine, side: str, batches: Sequence[Batch], seed: int) -> Tried:
    """Try copies of an engine on the first batches of a run: how its state is named, kept, loaded, and what it hides.

    Nothing of the engine and of the global generators changes. Raises `AdapterError` for what cannot be mended.
    """
    states = standing()
    try:
        with np.errstate(all="ignore"):
            return _Trial(engine, side, batches, seed).found()
    finally:
        put_back(states)


def tried_in_evaluation(engine: Engine, side: str, x: Array, seed: int) -> Tried:
    """Try copies of an engine that is to evaluate ``x`` and takes no step, as `tried` does."""
    states = standing()
    try:
        with np.errstate(all="ignore"):
            return _Trial(engine, side, (), seed).found_in_evaluation(x)
    finally:
        put_back(states)


class _Trial:
    """One engine under trial."""

    def __init__(self, engine: Engine, side: str, batches: Sequence[Batch], seed: int) -> None:
        self.engine, self.side, self.batches, self.seed = engine, side, batches, seed
        self.who = SIDES[side]

    def found(self) -> Tried:
        state = self._state()
        first = self._first()
        if first is None:  # what it raises is told by the run
            return Tried(self.engine).on(Terms(names=self._named(state, ())))
        own, kept = self._shared()
        values = {"the loss": first.loss, "the outputs": first.outputs}
        values |= {f"the gradient of {name}": grad for name, grad in first.grads.items()}
        if isinstance(first.loss, float):  # which the contract has always taken
            del values["the loss"]
        terms, notes = self._terms(state, values, tuple(first.grads), own, kept)
        return self._behaviour(Tried(self.engine).on(terms, *notes), terms)

    def found_in_evaluation(self, x: Array) -> Tried:
        state = self._state()
        self._require_copy("load()", _load_other)
        stands = standing()
        outputs = self._evaluated(x)
        drawn_from = moved(stands, standing())
        terms, notes = self._terms(state, {"the outputs": outputs}, (), [], [])
        terms = replace(terms, seeded=bool(drawn_from))
        notes += [self._note(Trait.GLOBAL_GENERATOR, *drawn_from)] if drawn_from else []
        return Tried(self.engine).on(terms, *notes)

    def _state(self) -> Mapping[str, Any]:
        state = self.engine.state()
        if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
            raise AdapterError(
                f"{self.who}: state() returns a {type(state).__name__}; a dict of arrays by name is needed"
            )
        for key, value in state.items():
            array_of(value, f"{self.who}: {key}")
        return state

    def _evaluated(self, x: Array) -> Any:  # noqa: ANN401  whatever an engine shows
        with _suppressed():
            return copy.deepcopy(self.engine).evaluate(np.array(x), Context(training=False, key=Key(self.seed, 0)))
        return np.empty(0)

    def _require_copy(self, what: str, use: Callable[[Engine], object]) -> None:
        """Raise `AdapterError` where ``use`` of a copy changes the engine itself, which is put back."""
        original = {key: np.array(array_of(value, key)) for key, value in self.engine.state().items()}
        use(copy.deepcopy(self.engine))
        after = self.engine.state()
        if changed := [key for key in original if not _equal(original[key], after.get(key))]:
            self.engine.load(original)
            raise AdapterError(
                f"{self.who} cannot be copied: {what} of copy.deepcopy({type(self.engine).__name__}) changed "
                f"{changed[0]} of the engine itself; write a __deepcopy__ that returns an independent copy"
            )

    def _first(self) -> Step | None:
        """Return the first step of a copy, with its taps, as it is; None if there is no batch, or it raises."""
        if not self.batches:
            return None
        recorder = Recorder()
        context = self._context(0).tapped_by(recorder)
        steps: list[Any] = []

        def take(engine: Engine) -> None:
            with seeded(context.key), _suppressed():
                steps.append(engine.step(*_copied(self.batches[0]), context))

        self._require_copy("a step", take)
        if not steps:
            return None
        step = steps[0]
        if not isinstance(step, Step):
            raise AdapterError(
                f"{self.who}: step() of {type(self.engine).__name__} returns {_what(step)}; it is to return "
                "Step(loss, outputs, grads, self.state())"
            )
        for name, value in (("updated", step.updated), ("grads", step.grads)):
            if not isinstance(value, Mapping):
                raise AdapterError(
                    f"{self.who}: {name} of a Step is {_what(value)}; a dict of arrays by name is needed"
                )
        return replace(step, taps=recorder.taps)

    def _terms(
        self,
        state: Mapping[str, Any],
        values: Mapping[str, Any],
        grads: tuple[str, ...],
        own: Sequence[str],
        kept: Sequence[str],
    ) -> tuple[Terms, list[Note]]:
        """Return what is to be mended of a state and of the ``values`` of a step, and say so."""
        names = self._named(state, grads)
        converted = [name for name, value in {**state, **values}.items() if is_converted(value)]
        notes = [
            self._note(trait, *named)
            for trait, named in (
                (Trait.OWN_ARRAYS, own),
                (Trait.KEPT_ARRAYS, kept),
                (Trait.CONVERTED, converted),
                (Trait.RENAMED, [f"{given} for {key}" for key, given in names.items()]),
            )
            if named
        ]
        return Terms(copied=bool(own or kept), converted=bool(converted), names=names), notes

    def _named(self, state: Mapping[str, Any], grads: tuple[str, ...]) -> dict[str, str]:
        """Return what keys that the contract does not know are taken for; raises `AdapterError` if that is unclear.

        What has a gradient is a parameter. If every gradient has a parameter, anything else is a buffer.
        """
        unknown = [key for key in state if key != "step" and not key.startswith(tuple(f"{part}/" for part in STATE))]
        params = below("param/", state)
        names = {key: f"param/{key}" for key in unknown if key in grads and key not in params}
        lacking = [name for name in grads if name not in params and name not in names]
        for key in unknown:
            if key in names:
                continue
            if lacking or not params:
                wanted = f"param/{lacking[0] if len(lacking) == 1 else key}"
                raise AdapterError(
                    f"{self.who}: state() has {key!r}, which is no param/..., buffer/..., optim/SLOT/... or step; if "
                    f"it is trained, write it as {wanted!r}, there and in load()"
                )
            names[key] = f"buffer/{key}"
        return names

    def _shared(self) -> tuple[list[str], list[str]]:
        """Return the keys of arrays that a step changes, of those that `state` has shown and that `load` was given."""
        shown = copy.deepcopy(self.engine)
        state = shown.state()
        before = {key: np.array(array_of(value, key)) for key, value in state.items()}
        self._try(shown, 0)
        own = [key for key, value in state.items() if not _equal(before[key], value)]
        loaded = copy.deepcopy(self.engine)
        # Given back as the engine showed it: as a tensor, a number or an array.
        given = copy.deepcopy(self.engine).state()
        given = {key: copy.deepcopy(value) for key, value in given.items()}
        try:
            loaded.load(given)
        except Exception as error:  # noqa: BLE001  the engine is anybody's
            raise AdapterError(
                f"{self.who}: load(state) raises {raised(error)} for what state() has returned itself"
            ) from None
        self._try(loaded, 0)
        kept = [key for key, value in given.items() if not _equal(before[key], value)]
        return own, kept

    def _behaviour(self, result: Tried, terms: Terms) -> Tried:
        """Find what a step draws, shows, repeats and hides."""
        engine, context = result.engine, self._context(0)
        one = copy.deepcopy(engine)  # which may draw, too
        stands = standing()
        step = observed(one, self.batches[0], context)
        drawn_from = moved(stands, standing())
        if drawn_from:
            terms = replace(terms, seeded=True)
            note = self._note(Trait.GLOBAL_GENERATOR, *drawn_from)
            result = replace(result, engine=Border(self.engine, terms), notes=(*result.notes, note))
            engine, one = result.engine, copy.deepcopy(result.engine)
            step = observed(one, self.batches[0], context)
        draws = self._draws(engine, one)
        again = copy.deepcopy(engine)
        before = engine.state()
        twice = observed(again, self.batches[0], context)
        notes = list(self._shown(step))
        first, second = tensors_of(step), tensors_of(twice)
        moving = frozenset(
            key.removeprefix("param/")
            for key in step.updated
            if key.startswith("param/") and not _equal(step.updated[key], before.get(key))
        )
        # Nudged steps do not say how far rounding moves what is another number whenever it is computed.
        if differing := [name for name in first if name not in second or unexplained(name, first, second, before)]:
            notes.append(self._note(Trait.NOT_REPEATABLE, *differing))
        else:
            notes += self._hidden(engine, one)
        return replace(
            result, notes=(*result.notes, *notes), grads=tuple(step.grads), moving=moving, draws=frozenset(draws)
        )

    def _draws(self, engine: Engine, one: Engine) -> set[str]:
        """Return where the generators stand that a step has drawn from, after it, and whether it draws from its key."""
        found = set(moved(held(engine), held(one)).values())
        shown, stand = self._drawn_by(self.seed)
        other, _ = self._drawn_by(self.seed + 1)
        found |= {f"{name} {where}" for name, where in stand.items()}
        keyed = any(not _equal(array, other.get(name)) for name, array in shown.items())
        return found | ({"context.key"} if keyed else set())

    def _drawn_by(self, seed: int) -> tuple[dict[str, Array], dict[str, str]]:
        """Return the first step with a key of that seed, and where it leaves the global generators that it uses."""
        inner = copy.deepcopy(self.engine)
        with seeded(self._context(0).key):
            began = standing()
            step = observed(inner, self._batch(0), Context(training=True, key=Key(seed, 0)))
            return tensors_of(step), moved(began, standing())

    def _shown(self, step: Step) -> Iterator[Note]:
        params = below("param/", step.updated)
        unknown = [name for name in step.taps if name.partition("/")[0] not in PHASES]
        if unknown:
            yield self._note(Trait.UNKNOWN_PHASES, *unknown)
        if self.side == "ours" and not any(name.startswith(("forward/", "backward/")) for name in step.taps):
            yield self._note(Trait.NO_TAPS)
        if not step.grads:
            yield self._note(Trait.NO_GRADIENTS, *params)
        elif unnamed := [name for name in step.grads if name not in params]:
            yield self._note(Trait.UNNAMED_GRADIENTS, *unnamed)

    def _hidden(self, engine: Engine, one: Engine) -> Iterator[Note]:
        """Compare the second step of a copy with the same step of another that was given its state before it."""
        between = {key: np.array(array) for key, array in one.state().items()}
        own = held(one)
        free = self._try(one, 1)
        loaded = copy.deepcopy(engine)
        loaded.load(between)
        other = self._try(loaded, 1)
        if free is None or other is None:
            return
        differing = self._beyond_noise(tensors_of(free), tensors_of(other), between, 1, engine)
        if differing:
            generators = moved(held(engine), own)
            yield self._note(Trait.OWN_GENERATOR, *generators) if generators else self._note(Trait.HIDDEN, *differing)

    def _beyond_noise(
        self, ours: dict[str, Array], theirs: dict[str, Array], before: State, index: int, engine: Engine
    ) -> list[str]:
        """Return the tensors of two equal steps that differ by more than rounding, as nudged steps show it."""
        differing = [name for name in ours if not _equal(ours[name], theirs.get(name))]
        if not differing:
            return []
        rng = Key(self.seed, index, "trial").generator()
        shadows = []
        for _ in range(SHADOWS_OF_A_TRIAL):
            shadow = copy.deepcopy(engine)
            shadow.load({key: nudged(array, rng) for key, array in before.items()})
            batch = self._batch(index)
            step = self._try(shadow, index, batch._replace(x=nudged(batch.x, rng)), rng)
            shadows += [] if step is None else [tensors_of(step)]

        def beyond(name: str) -> bool:
            a, b = ours[name], theirs.get(name)
            if b is None or unlike_arrays(name, a, b) or exact(name, b):
                return True
            like = [one[name] for one in shadows if name in one and not unlike_arrays(name, one[name], b)]
            widest = max((largest_difference(one, b) for one in like), default=0.0)
            return judged(name, a, b, widest, FACTOR, before).ratio > 1

        return [name for name in differing if beyond(name)]

    def _try(
        self, engine: Engine, index: int, batch: Batch | None = None, rng: np.random.Generator | None = None
    ) -> Step | None:
        context = self._context(index)
        given = self._batch(index) if batch is None else batch
        try:
            with seeded(context.key):
                return observed(engine, given, context, rng)
        except StepError:
            return None

    def _batch(self, index: int) -> Batch:
        return _copied(self.batches[min(index, len(self.batches) - 1)])

    def _context(self, index: int) -> Context:
        return Context(training=True, key=Key(self.seed, index))

    def _note(self, trait: Trait, *names: str) -> Note:
        return Note(self.side, trait, names)


@contextmanager
def _suppressed() -> Iterator[None]:
    """Suppress every exception but `AdapterError`: the engine is anybody's, and the run tells what it raises."""
    try:
        yield
    except AdapterError:
        raise
    except Exception:  # noqa: BLE001, S110  the engine is anybody's
        pass


def _load_other(engine: Engine) -> None:
    """Load other parameters than the engine has."""
    with _suppressed():
        state = {key: np.array(array_of(value, key)) for key, value in engine.state().items()}
        engine.load({key: array + 1 if array.dtype.kind == "f" else array for key, array in state.items()})


def _copied(batch: Batch) -> Batch:
    return Batch(np.array(batch.x), np.array(batch.y), batch.lr)


def _equal(a: Any, b: Any) -> bool:  # noqa: ANN401  whatever an engine shows
    if b is None:
        return False
    one, other = array_of(a, ""), array_of(b, "")
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _what(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
