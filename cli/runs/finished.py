"""A run's directory, read again: nothing in it is taken on trust."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcheck.contract import Array

Check = Callable[[object, str], Any]

# Far above what a run writes, so that a file that is none costs little memory: bytes of run.json, of a line of
# metrics.jsonl, and characters of a text.
DOCUMENT_LIMIT, LINE_LIMIT, TEXT_LIMIT = 2**24, 2**16, 1000
DEPTH_LIMIT = 20
COUNT_LIMIT = 2**53  # up to here a float holds every whole number


@dataclass(frozen=True, eq=False)
class Curves:
    """The numbers behind a run's figure, one a step.

    ``noise`` is the worst of lock-step in units of rounding noise, ``distance`` the relative distance of all parameters
    and ``envelope`` the spread of the shadows, NaN from the horizon on. ``crossings`` holds the step and the JSON of
    each kink that one side of free-run crossed alone. ``learned`` holds loss and accuracy of the batches before each
    step, by names such as ``numpy_loss``, NaN where a run was written before these were.
    """

    noise: Array
    distance: Array
    envelope: Array
    crossings: tuple[tuple[int, dict[str, Any]], ...]
    learned: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run as its directory tells it: ``document`` has every field, None where there was none; ``raw`` is as written.

    ``curves`` is None where the run compared nothing, or was written before these numbers were.
    """

    path: Path
    document: dict[str, Any]
    raw: dict[str, Any]
    curves: Curves | None


def read_run(path: Path) -> FinishedRun:
    """Return the run that a directory holds; raises DataError where it is damaged, with file and field."""
    from gradcheck.report.json import SCHEMA_VERSION
    from nets.datasets.dataset import DataError

    if not path.is_dir():
        raise DataError(f"{path} is no run's folder: train --out DIR writes one")
    if not (path / "run.json").exists() and (path / "checkpoint").is_dir():
        raise DataError(f"{path} holds a run that has not ended: mnistcheck train --resume {path} goes on with it")
    raw = _parse(_read(path / "run.json"), f"{path / 'run.json'}")
    where = f"{path / 'run.json'}:"
    if not isinstance(raw, dict):
        raise DataError(f"{where} needs an object, got {_shown(raw)}")
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise DataError(
            f"{where} schema_version must be {SCHEMA_VERSION}, which is what is read here; got {_shown(version)}"
        )
    document = RUN(raw, where)
    if document["verdict"] is not None:
        document |= PROOF(raw, where)
    return FinishedRun(path, document, raw, _curves(path / "metrics.jsonl", document))


def _read(path: Path) -> bytes:
    from nets.datasets.dataset import DataError

    if not path.is_file():
        raise DataError(f"{path} is missing: a finished run has one")
    with path.open("rb") as file:
        content = file.read(DOCUMENT_LIMIT + 1)
    if len(content) > DOCUMENT_LIMIT:
        raise DataError(f"{path} has more than {DOCUMENT_LIMIT:,} bytes: no run writes as many")
    return content


def _parse(content: bytes, where: str) -> object:
    from nets.datasets.dataset import DataError

    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of too many digits, nested too deep
        raise DataError(f"{where} is not JSON, or was cut off: {str(error)[:80]}") from None
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [child for item in level for child in _children(item)]
    if level:
        raise DataError(f"{where} is nested more than {DEPTH_LIMIT} deep: no run writes such a file")
    return value


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _curves(path: Path, document: dict[str, Any]) -> Curves | None:
    """Return the numbers behind the figure, having read every line."""
    import numpy as np

    from nets.datasets.dataset import DataError

    if not path.is_file():
        raise DataError(f"{path} is missing: a finished run has one")
    if document["verdict"] is None and document["epochs"] is not None:
        _require_epochs(path, document)
        return None
    noise, distance, envelope, crossings = [], [], [], []
    learned: dict[str, list[float]] = {name: [] for name in LEARNED}
    for index, (where, line) in enumerate(_lines(path, METRICS)):
        if line["step"] != index:
            raise DataError(f"{where}: step must be {index}, got {line['step']}: steps are missing or doubled")
        noise.append(math.nan if line["rounding_noise"] is None else line["rounding_noise"])
        for name, values in learned.items():
            values.append(math.nan if line[name] is None else line[name])
        distance.append(line["distance"])
        envelope.append(line["envelope"])
        crossings += [(index, crossing) for crossing in line["kinks_crossed"] or ()]
    _require_steps(path, len(noise), document)
    if document["verdict"] is None or all(value is None for value in distance):
        return None
    compared = document["free_run"]["steps_compared"]
    if None in distance or None in envelope[:compared] or envelope[compared:] != [None] * (len(envelope) - compared):
        raise DataError(
            f"{path} needs a distance in every line and an envelope in the first {compared:,},"
            " those that run.json says were compared"
        )
    told = np.array([math.nan if value is None else value for value in envelope])
    curves = {name: np.array(values) for name, values in learned.items()}
    return Curves(np.array(noise), np.array(distance), told, tuple(crossings), curves)


def _lines(path: Path, check: Check) -> Iterator[tuple[str, Any]]:
    """Yield each line's place and what ``check`` makes of it; no longer one is read than a run writes."""
    with path.open("rb") as file:
        for number, content in enumerate(iter(lambda: file.readline(LINE_LIMIT), b""), 1):
            where = f"{path}, line {number}"
            yield where, check(_parse(content, where), f"{where}:")


def _require_epochs(path: Path, document: dict[str, Any]) -> None:
    """Raise DataError unless a run that compared nothing has a line an epoch, the ones that run.json has."""
    from nets.datasets.dataset import DataError

    lines = [line for _, line in _lines(path, EPOCH)]
    if json.dumps(lines) != json.dumps(document["epochs"]):  # in which NaN is itself
        raise DataError(f"{path} needs the {len(document['epochs']):,} epochs that run.json has, a line each")


def _require_steps(path: Path, lines: int, document: dict[str, Any]) -> None:
    """Raise DataError unless there is a line a step, or fewer where something has ended the run early."""
    from nets.datasets.dataset import DataError

    steps = document["configuration"]["steps"]
    early = document["stopped_by"] is not None or document["verdict"] == "fail"
    if lines > steps or (lines < steps and not early):
        raise DataError(f"{path} has {lines:,} lines, where the run has {steps:,} steps")


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _must(be: str, holds: Callable[[Any], bool], convert: Callable[[Any], Any] = lambda value: value) -> Check:
    """Return what gives a value back, converted, if it ``holds``, and else raises DataError."""

    def check(value: object, where: str) -> object:
        from nets.datasets.dataset import DataError

        if value is None:
            raise DataError(f"{where} is missing; it must be {be}")
        if not holds(value):
            raise DataError(f"{where} must be {be}, got {_shown(value)}")
        return convert(value)

    return check


def _optional(check: Check) -> Check:
    return lambda value, where: None if value is None else check(value, where)


def _list(check: Check) -> Check:
    whole = _must("a list", lambda value: isinstance(value, list))
    return lambda value, where: [check(item, f"{where}[{i}]") for i, item in enumerate(whole(value, where))]


def _record(**fields: Check) -> Check:
    """Return what gives back an object's known fields, each of them checked."""
    whole = _must("an object", lambda value: isinstance(value, dict))

    def check(value: object, where: str) -> dict[str, Any]:
        found = whole(value, where)
        inside = f"{where} " if where.endswith(":") else f"{where}."
        return {name: each(found.get(name), f"{inside}{name}") for name, each in fields.items()}

    return check


def _mapping(check: Check) -> Check:
    """Return what gives back an object of any names, which are printable, sorted by them."""
    whole = _must("an object", lambda value: isinstance(value, dict))

    def checked(value: object, where: str) -> dict[str, Any]:
        found = whole(value, where)
        return {text(name, f"{where}, a name,"): check(found[name], f"{where}.{name}") for name in sorted(found)}

    return checked


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in {"inf", "-inf", "nan"}  # strict JSON has no numbers for these
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= COUNT_LIMIT


def _shown_safely(prose: str) -> str:
    """Return text of any kind, such as the message of somebody's error, as one printable line."""
    line = "".join(character if character.isprintable() else " " for character in prose)
    return line if len(line) <= TEXT_LIMIT else f"{line[:TEXT_LIMIT]}..."


# Text that only shows: no control characters, which a terminal would obey.
text = _must(
    f"printable text of at most {TEXT_LIMIT} characters",
    lambda value: isinstance(value, str) and len(value) <= TEXT_LIMIT and value.isprintable(),
)
prose = _must("text", lambda value: isinstance(value, str), _shown_safely)
count = _must(
    "a whole number from 0 on",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_LIMIT,
)
number = _must("a number", _is_number, float)
positive = _must("a number above 0", lambda value: _is_number(value) and 0 < float(value) < math.inf, float)
_setting = _must(
    "text, a number or a truth value",
    lambda value: isinstance(value, bool) or _is_number(value) or (isinstance(value, str) and value.isprintable()),
)
flag = _must("true or false", lambda value: isinstance(value, bool))
verdict = _must("pass, fail or inconclusive", lambda value: value in ("pass", "fail", "inconclusive"))

OUTCOME = _record(
    train_accuracy=number,
    test_accuracy=number,
    seconds=number,
    recalls=_optional(_list(_optional(number))),
    best_epoch=_optional(count),
    best_test_accuracy=_optional(number),
    peaks=_optional(_list(number)),
)
SIDE = _record(
    lr=number,
    train_loss=number,
    train_accuracy=number,
    validation_loss=_optional(number),
    validation_accuracy=_optional(number),
    seconds=number,
)
EPOCH = _record(epoch=count, numpy=_optional(SIDE), torch=_optional(SIDE))
CROSSING = _record(
    step=_optional(count),
    layer=text,
    index=_list(count),
    units=_optional(count),
    margins=_optional(_list(number)),
    gap=number,
    noise=number,
    explained=flag,
)

# What every run.json holds, and what that of a fair run holds besides.
RUN = _record(
    verdict=_optional(verdict),
    preset=text,
    dataset=_record(name=text, sha256=text, train_size=count, test_size=count),
    configuration=_record(
        network=text,
        parameters=_optional(count),
        steps=count,
        steps_taken=_optional(count),
        stopped_early=_optional(flag),
        validation_size=_optional(count),
        batch_size=count,
        lr=number,
        seed=count,
        dtype=text,
        inject=_optional(text),
    ),
    settings=_optional(_mapping(_optional(_setting))),
    stopped_by=_optional(_record(step=count, layer=text, tensor=text, side=_optional(text))),
    numpy=_optional(OUTCOME),
    torch=_optional(OUTCOME),
    epochs=_optional(_list(EPOCH)),
    warnings=_optional(_list(_record(kind=text, side=_optional(text), text=prose))),
    environment=_record(python=text, platform=text, versions=_mapping(_optional(text))),
)
PROOF = _record(
    reason=_optional(prose),
    notes=_optional(_list(_record(side=text, trait=text, names=_list(prose), text=prose))),
    factor=positive,
    shadows=count,
    lock_step=_record(
        verdict=verdict,
        steps_compared=count,
        worst=_optional(_record(ratio=number, step=count, phase=text, tensor=text)),
        comparisons=count,
        informative_share=number,
        uninformative=_list(text),
        ratios=_record(**dict.fromkeys(("median", "p99.9", "largest"), _optional(number))),
        failed_steps=count,
        kinks_crossed=count,
        kinks=_optional(_list(CROSSING)),
    ),
    free_run=_record(
        verdict=verdict,
        steps_compared=count,
        horizon_step=_optional(count),
        max_relative_distance=number,
        kinks_crossed=count,
        kinks=_optional(_list(CROSSING)),
        worst=_optional(_record(ratio=number, step=count, tensor=text)),
        first_failure=_optional(_record(step=count, tensor=text)),
    ),
    every=_optional(count),
    smallest_detectable_fault=_optional(number),
    sensitivity=_optional(
        _record(
            by_tensor=_mapping(_optional(_record(size=number, step=count, steps=count, share_of_steps=number))),
            caught=_list(text),
            missed=_list(text),
        )
    ),
    first_divergence=_optional(
        _record(
            step=count,
            phase=text,
            layer=text,
            tensor=text,
            index=_list(count),
            numpy=number,
            torch=number,
            allowed=number,
            ratio=number,
            message=_optional(prose),
            mode=_optional(text),
            diagnosis=_optional(prose),
        )
    ),
)
LEARNED = ("numpy_loss", "torch_loss", "numpy_accuracy", "torch_accuracy")
METRICS = _record(
    step=count,
    **dict.fromkeys(LEARNED, _optional(number)),
    rounding_noise=_optional(number),
    distance=_optional(number),
    envelope=_optional(number),
    kinks_crossed=_optional(_list(CROSSING)),
)


def repetition(document: Mapping[str, Any]) -> list[str]:
    """Return the arguments of the command that repeats a run, without what is the preset's anyway."""
    from nets.presets import PRESETS, configuration

    configured, data = document["configuration"], document["dataset"]
    told = {
        "preset": document["preset"],
        "dataset": data["name"],
        "train_size": data["train_size"],
        "test_size": data["test_size"],
        "steps": configured["steps"],
        **{name: configured[name] for name in ("batch_size", "lr", "seed", "dtype", "inject")},
        **(document["settings"] or {}),
    }
    if told["dataset"] == "auto":
        told["dataset"] = data["name"]
    if document["verdict"] is not None:
        told |= {name: document[name] for name in USUAL if name in document} | {"fair": True}
    preset = PRESETS.get(document["preset"])
    usual = {**USUAL, **({} if preset is None else configuration(preset))}
    for name in NOT_REPEATED if document["settings"] else ():
        told.pop(name, None)
    # What a run always tells comes first, whether or not it is the preset's.
    given = {name: told[name] for name in ALWAYS if told.get(name) is not None}
    given |= {name: value for name, value in told.items() if value is not None and value != usual.get(name)}
    arguments = [part for name, value in given.items() for part in _argument(name, value)]
    return ["mnistcheck", "train", *(["--fair"] if told.get("fair") else []), *arguments]


USUAL: dict[str, Any] = {
    "factor": 8.0, "shadows": 3, "every": 1, "engine": "both", "device": "cpu", "no_sensitivity": False, "fair": True,
}  # fmt: skip
ALWAYS = ("preset", "dataset", "train_size", "validation_size", "test_size", "steps", "batch_size", "seed", "dtype")
NOT_REPEATED = ("data_dir", "checkpoint_every", "epochs", "lr")  # where files are; what the number of steps says
SWITCHES = {"first": ("--first", "--drawn"), "drop_last": ("--drop-last", "--keep-last")}


def _argument(name: str, value: object) -> list[str]:
    if name in SWITCHES:
        return [SWITCHES[name][0 if value else 1]]
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [] if value is False else [option, str(value)]
