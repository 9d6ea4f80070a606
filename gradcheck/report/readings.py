"""How a foreign object was read, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradcheck.report.text import Json
from gradcheck.subjects.caller import LOSS_INPUTS
from gradcheck.subjects.calls import FILLED, OBJECT, RESULT, Bundle, Calls, Held
from gradcheck.subjects.handed import HANDED
from gradcheck.subjects.parameters import name_of
from gradcheck.subjects.reading import Reading


def describe_reading(reading: Reading) -> list[str]:
    """Return a line about how the object is called, and one about what was found in it."""
    calls = reading.calls
    one = "dy/d" if calls.elementwise or calls.contracted else "d"
    gradients = [_result(calls.gradients[i], f"{one}{reading.argument_names[i]}") for i in sorted(calls.gradients)]
    if not gradients and not calls.given:
        gradients = [f"d{name}" for name, path in reading.grads.items() if path.startswith(RESULT)]
    names = calls.names or calls.given
    back = [_given(what, name, reading) for what, name in zip(calls.given, names, strict=True)]
    back += [f"{flag}=True" for flag in calls.derive]
    after = f" -> {', '.join(gradients)}" if gradients else ""
    local = _times(calls) if calls.local and gradients else ""
    forward, *backward = calls.spoken or (calls.forward, calls.backward)
    first = f"read as: {forward}({_arguments(reading)}) -> {_outputs(reading)}"
    ending = f", {', '.join(gradients)}{local}" if gradients else ""
    first += f", {backward[0]}({', '.join(back)}){after}{local}" if backward else ending
    first += f", then {calls.after}()" if calls.after else ""
    return [first, *(f"  {line}" for line in ("; ".join(_facts(reading)),) if line)]


def _times(calls: Calls) -> str:
    """Return what is done with dy and a local derivative."""
    if not calls.contracted:
        return ", times dy"
    dy, derivative, dx = re.split(",|->", calls.contracted)
    return f", a Jacobian{' of each sample' if {*dy} & {*derivative} & {*dx} else ''}, contracted with dy"


def _arguments(reading: Reading) -> str:
    written = []
    for argument in reading.calls.arguments:
        if isinstance(argument, int):
            written.append(reading.argument_names[argument])
        elif isinstance(argument, Bundle):
            written.append(f"[{', '.join(reading.argument_names[n] for n in argument.numbers)}]")
        elif isinstance(argument, Held):
            written.append(argument.path)
        else:
            written.append(f"{argument.value!r:.20}")
    flags = [f"{flag.name}=" for flag in reading.calls.switch.arguments]
    return ", ".join([*written, *flags, *(f"{name}=True" for name in reading.calls.keep)])


def _outputs(reading: Reading) -> str:
    calls = reading.calls
    names = ["y"] if len(calls.outputs) == 1 else [f"y{i}" for i in range(len(calls.outputs))]
    text = ", ".join(_result(path, name) for path, name in zip(calls.outputs, names, strict=True))
    others = calls.returns_outputs - len(calls.outputs)
    if others > 0 and calls.outputs[0].startswith(f"{RESULT}."):
        text += f" (of {calls.returns_outputs} outputs)" if "cache" not in calls.given else ", cache"
    return f"mean of {text}" if calls.mean else text


def _result(path: str, name: str) -> str:
    return f".{path.partition('.')[2]}" if path.startswith(OBJECT) else name


def _given(what: str, name: str, reading: Reading) -> str:
    if what.startswith("input") and what != "inputs":
        return reading.argument_names[int(what[5:])]
    if what.startswith(("argument", "output")):
        return name
    return {FILLED: name, "dys": "(dy0, dy1, ...)", "rate": f"{name}=1"}.get(what, what)


def _facts(reading: Reading) -> Iterator[str]:
    if reading.params:
        pairs = ", ".join(f"{name} ({_gradient(reading, name)})" for name in reading.params)
        yield f"parameters and their gradients: {pairs}"
    if reading.chosen:
        first = next(a for a in reading.calls.arguments if isinstance(a, int))
        yield f"no argument is called a target: the {reading.inputs[first]} is taken to be the first"
    if reading.silent:
        own = dict(zip(reading.inputs, reading.argument_names, strict=True))
        yield f"no gradient of {', '.join(own[name] for name in reading.silent)} is returned"
    if reading.adds_up:
        yield f"gradients are added up from call to call: {', '.join(reading.adds_up)}"
    if reading.moves:
        yield f"backward changes {', '.join(reading.moves)}, which is undone"
    if reading.buffers:
        yield f"forward changes {', '.join(reading.buffers)}"
    if reading.grows:
        until = f" until {reading.resets}(), which is called" if reading.resets else ", and no reset was found: emptied"
        yield f"it keeps something of every call in {', '.join(reading.grows)}{until} before each call here"
    if reading.goes_on:
        yield f"it goes on from call to call in {', '.join(reading.goes_on)}: every call here is the first of a copy"
    if reading.keeps:
        reset = f", until {reading.resets}()" if reading.resets else ""
        yield f"it keeps a state in {', '.join(reading.keeps)}{reset}: every call here starts from the same"
    if reading.calls.switch:
        yield f"its mode is set by {reading.calls.switch.name()}"
    if reading.evaluates:
        yield f"backward after a forward pass in evaluation mode {reading.evaluates}: not judged"
    if reading.begun is not None:
        yield "its first forward pass makes weights: it is judged as that leaves it"
    if reading.draws:
        yield f"it draws random numbers from {', '.join(reading.draws)}, put back before each call"
    if reading.fixed:
        yield f"{reading.calls.backward} returns the same for other inputs: judged at those given alone"
    if reading.batch is not None and reading.batch != (0, 0):
        yield f"samples along axis {reading.batch[0]}"


def _gradient(reading: Reading, name: str) -> str:
    if name in reading.moved:
        return "what backward subtracts, over the rate"
    path = reading.grads.get(name, "")
    if path.startswith(f"{OBJECT}.{HANDED}."):
        return f"given to {path.removeprefix(f'{OBJECT}.{HANDED}.').partition(':')[0]}"
    kept = path.partition(".")[2]
    if kept.startswith(f"{FILLED}."):
        calls = reading.calls
        return calls.names[calls.given.index(FILLED)] + kept.removeprefix(FILLED)
    return "returned" if path.startswith(RESULT) else kept


def unchecked(reading: Reading) -> str:
    """Return in one sentence what the output depends on and was not judged; empty if there is nothing."""
    if not reading.unchecked:
        return ""
    names = ", ".join(reading.unchecked)
    them = "them" if len(reading.unchecked) > 1 else "it"
    of_loss = (
        reading.inputs[: len(LOSS_INPUTS)] == LOSS_INPUTS
    )  # of which the gradient of the prediction is judged, and no other
    how = "" if of_loss else "params= and grads=, or with "
    said = (
        f"NOT CHECKED: {names}: the output depends on {them}, and no gradient was found "
        f"(name {them} with {how}constant= where there is none)"
    )
    if reading.perhaps and not of_loss:
        pairs = ", ".join(f'"{name_of(path)}": "{place}"' for path, place in reading.perhaps.items())
        said += f"; if that is what backward left there: grads={{{pairs}}}"
    if moved := [path for path in reading.unchecked if path in reading.moves.values()]:
        said += (
            f"; backward moves {', '.join(moved)}, but not by a multiple of a gradient alone, as with momentum or "
            "Adam: keep the gradient, as in self.dW = dW, or hand it on beside the weight, as in "
            "optimizer.update(W, dW)"
        )
    return said


def reading_to_json(reading: Reading) -> Json:
    """Return a `Reading` as a JSON object."""
    calls = reading.calls
    return {
        "forward": calls.forward,
        "backward": calls.backward,
        "outputs": list(calls.outputs),
        "given_to_backward": list(calls.given),
        "gradients": {reading.inputs[i]: path for i, path in calls.gradients.items()},
        "without_gradient": list(reading.silent),
        "params": dict(reading.params),
        "grads": dict(reading.grads),
        "unchecked": list(reading.unchecked),
        "buffers": list(reading.buffers),
        "changed_by_backward": list(reading.moves),
        "added_up": list(reading.adds_up),
        "state": list(reading.keeps),
        "kept_of_every_call": list(reading.grows),
        "mode": calls.switch.name(),
        "backward_in_evaluation": reading.evaluates or "judged",
        "draws": list(reading.draws),
        "batch_axis": None if reading.batch is None else reading.batch[0],
        "words": describe_reading(reading),
    }
