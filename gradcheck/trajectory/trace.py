"""Traces of steps on disk: JSON lines and safetensors, as docs/traces.md says, from any language."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gradcheck.contract import PHASES, Array, Context, Key
from gradcheck.trajectory.engine import Batch, State, below

FORMAT, VERSION = "mnistcheck-trace", 1
INDEX = "trace.jsonl"
NOISE = ("free", "step")

# Bytes, the most read at a time. A line names the tensors of a step twice; thousands of them take less.
LONGEST_LINE = 1 << 24

NUMBERS = "fiu"  # kinds of dtype that can be compared


class TraceError(ValueError):
    """A trace cannot be read, or does not fit the engine that is to follow it."""


@dataclass(frozen=True)
class Header:
    """The first line of a trace: ``program`` names the program that took the steps, ``dtype`` its precision.

    Random numbers are keyed by ``seed``. ``noise`` is "free" if the noise is of all steps so far, "step" if it is of
    single steps, and None without any. ``along`` is the digest of the trace from whose states the steps were taken,
    None if the program trained by itself. ``configuration`` is for people.
    """

    program: str
    dtype: str
    seed: int = 0
    noise: str | None = None
    along: str | None = None
    configuration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """The line of one step: ``tensors`` are those in ``file``, named ``phase/tensor``, in the order of execution.

    ``noise`` holds, for some of them, how far rounding alone moves an element.
    """

    step: int
    lr: float
    file: str
    tensors: tuple[str, ...]
    loss: float | None = None
    noise: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RecordedStep:
    """One step of a trace, whose arrays are read on request; ``previous`` is the step before it."""

    trace: Trace
    entry: Entry
    previous: Entry | None

    def tensors(self) -> dict[str, Array]:
        """Return the tensors of the step, as `tensors_of` does, in the order of execution."""
        arrays = self._read(self.entry)
        named = {name: array for name, array in arrays.items() if not name.startswith("before/")}
        for wrong, why in (
            (set(self.entry.tensors) - named.keys(), "lacks"),
            (named.keys() - set(self.entry.tensors), "has, unnamed in its line,"),
        ):
            if wrong:
                raise TraceError(f"{self.trace.folder / self.entry.file} {why} {', '.join(sorted(wrong))}")
        return {name: named[name] for name in self.entry.tensors}

    def before(self) -> State:
        """Return the state before the step: its own ``before/...``, else the previous step's ``update/...``, or {}."""
        state = below("before/", self._read(self.entry, "before/"))
        follows = self.previous is not None and self.previous.step + 1 == self.entry.step
        if not state and follows and self.previous is not None and self.trace.header.along is None:
            state = below("update/", self._read(self.previous, "update/"))
        return {**state, "step": state.get("step", np.asarray(self.entry.step))} if state else {}

    def batch(self, tensors: Mapping[str, Array]) -> Batch:
        """Return the batch of the step."""
        if missing := [name for name in ("data/x", "data/y") if name not in tensors]:
            raise TraceError(f"{self.trace.folder / self.entry.file} lacks {', '.join(missing)}, which a step needs")
        return Batch(tensors["data/x"], tensors["data/y"], self.entry.lr)

    def context(self) -> Context:
        """Return the context of the step."""
        return Context(training=True, key=Key(self.trace.header.seed, self.entry.step))

    def _read(self, entry: Entry, prefix: str = "") -> dict[str, Array]:
        return read_safetensors(self.trace.folder / entry.file, prefix)


class Trace:
    """A folder with a trace, read one step at a time. Raises `TraceError` if it breaks docs/traces.md."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.header = _header(self.folder / INDEX, next(self._lines()))

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of the trace's lines: the ``along`` of traces recorded along it."""
        with (self.folder / INDEX).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def steps(self) -> Iterator[RecordedStep]:
        """Yield the recorded steps in order."""
        previous: Entry | None = None
        lines = self._lines()
        next(lines)
        for number, line in enumerate(lines, 2):
            entry = _entry(f"{self.folder / INDEX}, line {number}", line)
            if previous is not None and entry.step <= previous.step:
                raise TraceError(
                    f"{self.folder / INDEX}, line {number}: step {entry.step} comes after step {previous.step}"
                )
            if entry.noise and self.header.noise is None:
                raise TraceError(
                    f'{self.folder / INDEX}, line {number} has noise, but line 1 no "noise": {" or ".join(NOISE)}'
                )
            yield RecordedStep(self, entry, previous)
            previous = entry

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines as JSON objects, at least one."""
        path = self.folder / INDEX
        if not path.is_file():
            raise TraceError(f"{self.folder} is no trace: it has no {INDEX}")
        number = 0
        try:
            with path.open("rb") as file:
                while line := file.readline(LONGEST_LINE + 1):
                    number += 1
                    yield _object(f"{path}, line {number}", line)
        except OSError as error:
            raise TraceError(f"{path} cannot be read: {error.strerror}") from None
        if not number:
            raise TraceError(f"{path} is empty: its first line says what it is")


class TraceWriter:
    """Writes a trace into an empty folder, step by step: one that is cut short is a shorter trace.

    Raises FileExistsError if the folder has a trace already.
    """

    def __init__(self, folder: str | Path, header: Header) -> None:
        self.folder, self.header, self.size = Path(folder), header, 0
        (self.folder / "steps").mkdir(parents=True)
        (self.folder / INDEX).touch(exist_ok=False)
        self._append({"format": FORMAT, "version": VERSION, **asdict(header)})

    def write(
        self,
        step: int,
        lr: float,
        tensors: Mapping[str, Array],
        noise: Mapping[str, float],
        before: Mapping[str, Array],
    ) -> None:
        """Write the ``tensors`` of one step, given in the order of execution, then its line."""
        file = f"steps/{step:06d}.safetensors"
        arrays = {**tensors, **{f"before/{key}": array for key, array in before.items()}}
        self.size += (self.folder / file).write_bytes(to_safetensors(arrays))
        loss = tensors.get("loss/loss.value")
        self._append(
            {
                "step": step,
                "lr": lr,
                "loss": None if loss is None else _number(float(loss)),
                "file": file,
                "tensors": list(tensors),
                "noise": {name: _number(value) for name, value in noise.items()},
            }
        )

    def _append(self, line: dict[str, Any]) -> None:
        with (self.folder / INDEX).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.size += len(json.dumps(line)) + 1


def read_safetensors(path: Path, prefix: str = "") -> dict[str, Array]:
    """Return the arrays of a file whose names begin with ``prefix``; raises `TraceError` if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TraceError(f"{path} is missing")
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118  no dict
    except (SafetensorError, OSError) as error:
        raise TraceError(f"{path} is no safetensors file: {_line(error)}") from None
    except Exception as error:  # noqa: BLE001  the library raises what it likes for a dtype that NumPy has not
        raise TraceError(f"{path} holds what NumPy cannot: {_line(error)}") from None
    if wrong := [name for name, array in arrays.items() if array.dtype.kind not in NUMBERS]:
        raise TraceError(f"{path}: {wrong[0]} is {arrays[wrong[0]].dtype}, not integers or floating-point numbers")
    return arrays


def read_about(path: Path, key: str, form: str, version: int, what: str) -> dict[str, Any]:
    """Return the JSON object that a safetensors file has under ``key`` in its header, of this format and version.

    Raises `TraceError` for any other file; ``what`` names the kind that is needed.
    """
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get(key, "")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != form:
        raise TraceError(f"{path} is no {what}")
    if about.get("version") != version:
        raise TraceError(f"{path} has version {about.get('version')!r}; version {version} can be read")
    return about


def to_safetensors(arrays: Mapping[str, Array], metadata: dict[str, str] | None = None) -> bytes:
    """Return the content of a safetensors file."""
    from safetensors.numpy import save

    return bytes(save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata))


def _object(where: str, line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise TraceError(f"{where} is longer than {LONGEST_LINE:,} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{where} is not JSON: {_line(error)}") from None
    if not isinstance(value, dict):
        raise TraceError(f"{where} is no JSON object")
    return value


def _header(path: Path, line: dict[str, Any]) -> Header:
    if line.get("format") != FORMAT:
        raise TraceError(f'{path} is no trace: its first line needs "format": "{FORMAT}"')
    if line.get("version") != VERSION:
        raise TraceError(f"{path} has version {line.get('version')!r}; version {VERSION} can be read")
    fields = _Fields(f"{path}, line 1", line)
    return Header(
        program=fields.text("program"),
        dtype=fields.text("dtype"),
        seed=fields.count("seed", 0),
        noise=fields.choice("noise", NOISE),
        along=fields.text("along") if line.get("along") is not None else None,
        configuration=fields.mapping("configuration"),
    )


def _entry(where: str, line: dict[str, Any]) -> Entry:
    fields = _Fields(where, line)
    tensors = line.get("tensors")
    if not isinstance(tensors, list) or not all(isinstance(name, str) for name in tensors):
        raise TraceError(f'{where} needs "tensors", the names of its tensors in the order of execution')
    seen: set[str] = set()
    for name in tensors:
        phase, _, tensor = name.partition("/")
        if phase not in PHASES or not tensor or name in seen:
            raise TraceError(f"{where}: {name!r} is not one tensor of the phases {', '.join(PHASES)}")
        seen.add(name)
    file = PurePosixPath(fields.text("file"))
    if file.is_absolute() or ".." in file.parts:
        raise TraceError(f"{where}: {str(file)!r} is not inside the trace's folder")
    lr = fields.number("lr", line.get("lr"))
    if not math.isfinite(lr):
        raise TraceError(f'{where} needs a finite "lr", got {lr}')
    loss = None if line.get("loss") is None else fields.number("loss", line["loss"])
    noise = {name: fields.number(f"noise of {name}", value) for name, value in fields.mapping("noise").items()}
    for name, value in noise.items():
        if not value >= 0:
            raise TraceError(f"{where} needs a noise of {name} of at least 0, got {value}")
    return Entry(fields.count("step"), lr, str(file), tuple(tensors), loss, noise)


@dataclass(frozen=True)
class _Fields:
    """The fields of a line, each checked for its type."""

    where: str
    line: dict[str, Any]

    def text(self, name: str) -> str:
        value = self.line.get(name)
        if not isinstance(value, str):
            raise TraceError(f'{self.where} needs a text "{name}", got {value!r}')
        return value

    def choice(self, name: str, known: tuple[str, ...]) -> str | None:
        value = self.line.get(name)
        if value is not None and value not in known:
            raise TraceError(f'{self.where} needs "{name}" to be one of {", ".join(known)}, got {value!r}')
        return None if value is None else str(value)

    def count(self, name: str, default: int | None = None) -> int:
        value = self.line.get(name, default)
        # What counts steps and keys random numbers is one word of 64 bits there.
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise TraceError(f'{self.where} needs a count "{name}", got {value!r}')
        return value

    def number(self, name: str, value: object) -> float:
        if isinstance(value, str) and value.lower().lstrip("-") in ("nan", "inf"):
            return float(value)
        try:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        except OverflowError:
            return math.inf
        raise TraceError(f'{self.where} needs a number "{name}", got {value!r}')

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.line.get(name, {})
        if not isinstance(value, dict):
            raise TraceError(f'{self.where} needs an object "{name}", got {value!r}')
        return value


def _number(value: float) -> float | str:
    """Return ``value``, as a text where strict JSON has no number for it."""
    return value if math.isfinite(value) else str(value)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
