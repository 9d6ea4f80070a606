"""``presets``: the experiments as they are listed, and as they are shown in full."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cli.main import run
from nets.presets import PRESETS, configuration, configured, measured

Streams = pytest.CaptureFixture[str]


def listed(capsys: Streams, *args: str) -> str:
    """Return what the command prints, where that is all it does."""
    assert run(["presets", *args]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def strict(text: str) -> Any:  # noqa: ANN401  any JSON
    """Parse JSON without the constants that the standard does not have."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_preset_is_listed_with_what_was_published(capsys: Streams) -> None:
    lines = listed(capsys).splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert names == list(PRESETS)
    for preset in PRESETS.values():
        assert f"{preset.name:<22} {preset.summary}" in lines
    reported = [line.strip() for line in lines if line.strip().startswith("reported: ")]
    assert len(reported) == sum(bool(preset.reported) for preset in PRESETS.values())
    assert "reported: NumPy 84 %, 5 min in all" in reported
    assert "reported: NumPy 96.5 % of the training, 87.6 % of the test images; PyTorch varies" in reported


def test_what_was_measured_here_is_listed_beside_it(capsys: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"test_accuracy": 0.97, "train_accuracy": 0.98, "seconds_an_epoch": 1.5}
    monkeypatch.setattr("nets.presets.measured", lambda: {"fair": {"epochs": 3, "numpy": one, "torch": one}})
    told = "97.00% (98.00% of the training images), 1.5 s an epoch"
    assert f"here: NumPy {told}; PyTorch {told}" in listed(capsys)
    assert re.search(rf"^  here, PyTorch +{re.escape(told)}$", listed(capsys, "fair"), re.MULTILINE)


def test_what_is_kept_as_measured_is_of_presets_that_there_are() -> None:
    assert measured().keys() == PRESETS.keys()


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_shown_in_full_with_its_variants(name: str, capsys: Streams) -> None:
    blocks = listed(capsys, name).split("\n\n")
    shown = [block.splitlines()[0] for block in blocks]
    assert shown == [other for other in PRESETS if other == name or other.startswith(f"{name}:")]
    for block, preset in zip(blocks, (PRESETS[other] for other in shown), strict=True):
        fields = dict(line.strip().split(maxsplit=1) for line in block.splitlines()[2:])
        assert fields["parameters"] == f"{preset.parameter_count:,}"
        assert fields["optimizer"] == configuration(preset)["optimizer"]
        assert fields["train-size"] == f"{preset.train_size:,}"
        assert fields["first"] == ("yes" if preset.first else "no")
        assert {option.replace("_", "-") for option in configuration(preset)} <= fields.keys()


def test_the_names_of_what_is_shown_are_options_of_train(capsys: Streams) -> None:
    names = [line.split()[0] for line in listed(capsys, "fair").splitlines()[2:]]
    names = [name for name in names if not name.endswith(",")]  # what was reported of it, and comes of it here
    assert run(["train", "--help"]) == 0
    options = capsys.readouterr().out
    for name in names:
        assert name in ("architecture", "parameters") or f"--{name}" in options


def test_presets_as_json(capsys: Streams) -> None:
    found = strict(listed(capsys, "--json"))
    assert (found["schema_version"], found["command"]) == (1, "presets")
    assert [preset["name"] for preset in found["presets"]] == list(PRESETS)
    for told in found["presets"]:
        preset = PRESETS[told["name"]]
        assert told["parameters"] == preset.parameter_count
        assert told["reported"] == preset.reported
        given = {field: told[field] for field in configuration(preset)}
        assert configuration(configured(PRESETS["fair"], given)) == configuration(preset)
    (one,) = strict(listed(capsys, "cnn:scratch", "--json"))["presets"]
    assert (one["name"], one["parameters"]) == ("cnn:scratch", 402_202)
    assert [each["name"] for each in strict(listed(capsys, "cnn", "--json"))["presets"]] == ["cnn", "cnn:scratch"]


@pytest.mark.parametrize("name", ["nowhere", "cnn:", "", "CNN"])
def test_a_name_that_is_none_is_refused_in_one_line(name: str, capsys: Streams) -> None:
    assert run(["presets", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"Error: there is no preset {name!r}; there are {', '.join(PRESETS)}"
