"""What was found out about two engines before they were judged, and why a run told nothing, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gradcheck.report.text import Json
from gradcheck.trajectory.check import Silence
from gradcheck.trajectory.probing import Note, Trait

NAMED = 4  # names that a note lists, of any number

Sentence = Callable[[str, str], str]  # of the side and the names

TRAITS: Mapping[Trait, Sentence] = {
    Trait.OWN_ARRAYS: lambda who, names: (
        f"state() of {who} returns its own arrays, which the next step changes ({names}); they were copied: return "
        "array.copy()"
    ),
    Trait.KEPT_ARRAYS: lambda who, names: (
        f"load(state) of {who} keeps the arrays it is given, which the next step changes ({names}); they were copied: "
        "keep array.copy()"
    ),
    Trait.CONVERTED: lambda who, names: f"{who} shows numbers or tensors, which were made arrays: {names}",
    Trait.RENAMED: lambda who, names: f"names in state() of {who} were read as {names}",
    Trait.COUNTED: lambda who, _: (
        f"state() of {who} has no 'step'; its steps were counted for it: add 'step': np.asarray(steps)"
    ),
    Trait.ONE_OBJECT: lambda *_: (
        "both engines are one object; a copy was taken as ours, so that it says nothing of another"
    ),
    Trait.UNNAMED_GRADIENTS: lambda who, names: (
        f"{who} shows gradients that are called like no parameter: {names}; name them as in state(), without 'param/'"
    ),
    Trait.UNKNOWN_PHASES: lambda who, names: (
        f"{who} taps {names}, which was compared with nothing: phases are data, forward, loss, backward and update"
    ),
    Trait.NO_TAPS: lambda who, _: (
        f"{who} shows no intermediate, so how far it rounds is not measured: add taps, "
        "x = context.tapped('forward', '0.output', x)"
    ),
    Trait.NO_GRADIENTS: lambda who, names: (
        f"no gradients are shown by {who}: return them in Step, by the names of their parameters ({names})"
    ),
    Trait.HIDDEN: lambda who, names: (
        f"{who} has hidden state: a step after load(state()) is not what it is without ({names}). state() leaves out "
        "what is carried over, such as a velocity or gradients that add up; lock-step carried it along"
    ),
    Trait.OWN_GENERATOR: lambda who, names: (
        f"{who} draws random numbers from a generator of its own ({names}), which state() does not show; lock-step "
        "carried it along: draw from context.key.generator()"
    ),
    Trait.GLOBAL_GENERATOR: lambda who, names: (
        f"{who} draws random numbers from the global generator {names}, which was seeded alike before each step: draw "
        "from context.key.generator()"
    ),
    Trait.NOT_REPEATABLE: lambda who, names: (
        f"{who} does not repeat itself: the same step, taken twice from the same state, gives other numbers ({names})"
    ),
}

SILENCES: Mapping[Silence, str] = {
    Silence.NO_STEPS: "no step was compared: there were no batches",
    Silence.NOT_FINITE: "the loss is not finite on both sides; lower the learning rate",
    Silence.NOT_REPEATABLE: (
        "an engine does not repeat itself: the same step, taken twice from the same state, gives other numbers. Draw "
        "random numbers from context.key.generator()"
    ),
    Silence.OTHER_DRAWS: ("both draw random numbers, and not the same ones. Draw from context.key.generator() in both"),
    Silence.NO_TAPS: (
        "they differ by no more than rounding may explain, which cannot be measured, since taps are missing: in the "
        "step of ours, pass every intermediate array through x = context.tapped('forward', '0.output', x), or through "
        "the third argument of a function, x = tap('0.output', x)"
    ),
    Silence.NO_GRADIENTS: "no gradients are shown: return them in Step(loss, outputs, grads, self.state())",
    Silence.NO_INFORMATION: "none could tell right from wrong: no gradient was above rounding noise",
}


def describe_note(note: Note, sides: Mapping[str, str]) -> str:
    """Return what was found out about an engine, and what to do, in one sentence; ``sides`` are ours and theirs."""
    return TRAITS[note.trait](sides[note.side], named(note.names))


def describe_reason(silence: Silence, steps: int) -> str:
    """Return why a run of so many steps told nothing."""
    compared = f"{steps:,} steps were compared, and " if silence is Silence.NO_INFORMATION else ""
    return f"{compared}{SILENCES[silence]}"


def note_to_json(note: Note, sides: Mapping[str, str]) -> Json:
    """Return a `Note`, with its sentence."""
    return {"side": note.side, "trait": str(note.trait), "names": list(note.names), "text": describe_note(note, sides)}


def named(names: Sequence[str]) -> str:
    """Return some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
