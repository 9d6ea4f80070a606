"""``compare``: the variants of an experiment as one table, and whether those that should be equal are."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from cli.comparison.runs import ComparisonRuns, Pair
from cli.comparison.sentences import pair_sentence
from cli.comparison.tables import table_rows
from cli.figures.convergence import draw
from cli.figures.drawing import FORMS, rendered
from cli.main import run
from gradcheck.contract import Array, Context
from gradcheck.trajectory.engine import Engine
from gradcheck.trajectory.faults import GradientScale
from nets.comparison import Variant, pairs_of, variants_of
from nets.layers import Linear
from nets.presets import PRESETS
from nets.run import Program, Run
from tests.long import later

pytestmark = pytest.mark.usefixtures("undrawn")

Streams = pytest.CaptureFixture[str]
Json = dict[str, Any]

TINY = ("--dataset", "digits", "--train-size", "40", "--test-size", "20")
SMALL = (*TINY, "--network", "Linear(784, 8), Sigmoid(), Linear(8, 10), Sigmoid()", "--epochs", "2")
FIVE = ("compare", "--preset", "sigmoid-mse", *SMALL, "--fair-steps", "4")
FAIR = ("compare", "--preset", "fair", *SMALL, "--fair-steps", "0")
OVERFLOWING = ("compare", *TINY, "--network", "Linear(784, 10)", "--weights", "Constant(1e308)", "--fair-steps", "2")


@pytest.fixture(autouse=True, scope="module")
def _plain() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MNISTCHECK_COMPARE_")]:
            patch.delenv(name)
        patch.setenv("COLUMNS", "120")
        yield


def strict(text: str) -> Json:
    """Parse JSON without the constants that the standard does not have."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def compared(capsys: Streams, *args: str | Path, code: int = 0) -> Json:
    """Return the document of a comparison."""
    assert run([*map(str, args), "--json"]) == code
    return strict(capsys.readouterr().out)


def refused(capsys: Streams, code: int, *args: str | Path) -> str:
    """Return the error of a command that is refused with ``code``, in one line and before anything is trained."""
    assert run([*map(str, args)]) == code
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert (out, errors) == ("", [err.splitlines()[-1]])
    assert "Traceback" not in err
    return errors[0].removeprefix("Error: ")


def timeless(value: object) -> object:
    """Return JSON without what depends on the clock, and on the command that was typed."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in ("seconds", "command")}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def unplanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant no faults into what is proved, which takes longer than all else."""
    monkeypatch.setattr("cli.comparison.runs.MOST_PLANTED", 0)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison of the five published models."""
    folder = tmp_path_factory.mktemp("five") / "out"
    assert run([*FIVE, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def document(five: Path) -> Json:
    return strict((five / "comparison.json").read_text())


# What is compared, and what it comes to.


def test_the_five_published_models_are_one_table(document: Json) -> None:
    head, *rows = ([cell.replace("\n", " ") for cell in row] for row in table_rows(document))
    assert head == [
        "variant", "test accuracy", "training accuracy", "gap, points", "updates an epoch", "batch", "weight scale",
        "seconds", "equal (steps compared)",
    ]  # fmt: skip
    told = [[row[i] for i in (0, 4, 5, 6, 8)] for row in rows]
    assert told == [
        ["NumPy batch 1", "40", "1", "0.01", "pass (4 of 80)"],
        ["PyTorch batch 1", "40", "1", "0.01", "pass (4 of 80)"],
        ["PyTorch batch 32", "2", "32", "0.01", "-"],
        ["PyTorch scale 0.1", "2", "32", "0.1", "-"],
        ["PyTorch from NumPy's weights", "2", "32", "NumPy's", "-"],
    ]
    for row, one in zip(rows, document["variants"], strict=True):
        test, train = (one["runs"][0][name] for name in ("test_accuracy", "train_accuracy"))
        assert row[1:4] == [f"{test:.2%}", f"{train:.2%}", f"{100 * (train - test):+.2f}"]


def test_the_two_that_should_be_equal_are_to_the_last_digit_and_by_the_verdict(
    five: Path,
    document: Json,
) -> None:
    (pair,) = document["pairs"]
    assert pair["variants"] == ["NumPy batch 1", "PyTorch batch 1"]
    assert (document["verdict"], pair["verdict"], pair["steps"], pair["of_steps"]) == ("pass", "pass", 4, 80)
    assert 0 < pair["smallest_detectable_fault"] < 1e-12
    _, ours, theirs, *_ = table_rows(document)
    assert ours[1:7] == theirs[1:7]
    sentence = pair_sentence(pair)
    same = "are the same program in the first 4 of 80 steps, which agree within rounding noise; "
    assert sentence.startswith(f"PASS: NumPy batch 1 and PyTorch batch 1 {same}")
    assert sentence.endswith("Their accuracies are equal to the last digit printed.")
    assert sentence in (five / "comparison.md").read_text()


def test_a_row_is_what_train_comes_to(
    five: Path,
    document: Json,
    capsys: Streams,
) -> None:
    weights = five / "weights" / "sigmoid-mse-numpy-0.safetensors"
    commands = {
        "NumPy batch 1": ("sigmoid-mse", "numpy"),
        "PyTorch scale 0.1": ("sigmoid-mse:scale-0.1", "torch"),
        "PyTorch from NumPy's weights": ("sigmoid-mse:batch-32", "torch", "--init-from", weights),
    }
    rows = {one["name"]: one["runs"][0] for one in document["variants"]}
    for name, (preset, engine, *more) in commands.items():
        args = ("train", "--preset", preset, "--engine", engine, *SMALL, *more)
        trained = compared(capsys, *args)
        assert timeless({**rows[name], **trained[str(engine)]}) == timeless(rows[name])
        epochs = [{"epoch": line["epoch"], **line[str(engine)]} for line in trained["epochs"]]
        assert timeless(rows[name]["epochs"]) == timeless(epochs)


@pytest.mark.short(8)
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_gives_a_table(preset: str, capsys: Streams) -> None:
    sizes = ("--validation-size", "10") if PRESETS[preset].validation_of == "validation" else ()
    assert run(["compare", "--preset", preset, *TINY, *sizes, "--steps", "2", "--fair-steps", "0"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(preset)
    for variant in variants_of(preset):
        assert re.search(rf"^{re.escape(variant.name)} +\d+\.\d\d% +\d+\.\d\d% ", out, re.MULTILINE)
        assert re.search(rf"^{re.escape(variant.name)} .*(not compared|-) *$", out, re.MULTILINE)
    for ours, theirs in pairs_of(variants_of(preset)):
        assert f"{ours.name} and {theirs.name} should be equal; their steps were not compared." in out


def test_options_are_those_of_every_variant(capsys: Streams) -> None:
    told = compared(capsys, *FIVE, "--steps", "3", "--seed", "5", "--dtype", "float32", "--fair-steps", "0")
    assert (told["dtype"], told["seeds"], told["verdict"]) == ("float32", [5], None)
    assert {one["steps"] for one in told["variants"]} == {3}
    assert {one["runs"][0]["steps"] for one in told["variants"]} == {3}
    assert {one["train_size"] for one in told["variants"]} == {40}
    assert {one["test_size"] for one in told["variants"]} == {20}


def test_the_document_is_strict_json_with_its_version(capsys: Streams) -> None:
    told = compared(capsys, *FAIR)
    assert (told["schema_version"], told["command"], told["preset"]) == (1, "compare", "fair")
    assert told["dataset"]["name"] == "digits"
    assert told["variants"][0]["weight_scale"] == "XavierUniform"


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_row_of_every_table_is_one_line_that_fits(
    width: int, seeds: int, five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = five
    if seeds > 1:
        shutil.copytree(five, out := tmp_path / "out")
    assert run([*FIVE[:-1], "0", "--out", str(out), "--seeds", "2"][: None if seeds > 1 else -2]) == 0
    told = strict((out / "comparison.json").read_text())
    shown, _ = capsys.readouterr().out.split("\npublished: ")
    lines = shown.splitlines()[3:]
    assert max(len(line.rstrip()) for line in lines) <= width
    tables = sum(line.startswith("variant ") for line in lines)
    assert (tables > 1) == (width < 120 or seeds > 1)
    for name, *cells in table_rows(told)[1:]:
        mine = [line for line in lines if line.startswith(f"{name}  ")]
        assert len(mine) == tables
        assert [cell for line in mine for cell in re.split(" {2,}", line.strip())[1:]] == [
            cell for cell in cells if cell
        ]


def test_the_table_fits_and_is_two_where_it_does_not(
    document: Json,
    five: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Streams,
) -> None:
    for width, tables in ((120, 1), (80, 2)):
        monkeypatch.setenv("COLUMNS", str(width))
        assert run([*FIVE, "--out", str(five)]) == 0
        lines = capsys.readouterr().out.splitlines()
        rows = [line for line in lines if line.startswith("PyTorch scale 0.1 ")]
        assert len(rows) == tables
        assert max(map(len, rows)) <= width
        for cell in next(row for row in table_rows(document) if row[0] == "PyTorch scale 0.1")[:7]:
            assert cell in " ".join(rows)


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (("--epochs", "1"), "1 epoch, "),
        (("--epochs", "3"), "3 epochs, "),
        (("--steps", "80"), "2 or 40 epochs, "),  # of 40 batches and of 2
        (("--steps", "3"), "3 steps, "),  # of which batches of 32 need two epochs
        (("--steps", "3", "--epochs", "1"), "3 or 2 steps, "),
    ],
)
def test_runs_are_told_in_epochs_where_these_are_whole_and_else_in_steps(
    length: tuple[str, ...], told: str, capsys: Streams
) -> None:
    assert run([*FIVE[:-4], *length, "--fair-steps", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith(told)


def test_what_was_published_is_beside_what_comes_of_it(five: Path, document: Json, capsys: Streams) -> None:
    line = "published: NumPy 96.5 % of the training, 87.6 % of the test images; PyTorch varies"
    assert document["reported"]["sigmoid-mse"] == PRESETS["sigmoid-mse"].reported
    assert f"- {line}\n" in (five / "comparison.md").read_text()
    assert run([*FIVE, "--out", str(five)]) == 0
    assert capsys.readouterr().out.count("published") == 1 == (five / "comparison.md").read_text().count("published")
    sizes = ("--validation-size", "10", "--steps", "2", "--fair-steps", "0")
    assert run(["compare", "--preset", "nielsen", *TINY, *sizes]) == 0
    lines = [one for one in capsys.readouterr().out.splitlines() if one.startswith("published")]
    assert lines == [
        "published, nielsen: NumPy 84.05 %, 7 to 11 s an epoch",
        "published, nielsen:torch: PyTorch 95.36 %, 5 to 7 s an epoch",
    ]


def test_data_with_fewer_images_than_the_preset_asks_for_is_remarked_on(capsys: Streams) -> None:
    assert (
        run(["compare", "--preset", "nnmnist:scratch", "--dataset", "digits", "--steps", "1", "--fair-steps", "0"]) == 0
    )
    assert "digits has too few images for the preset's 41,000: training on 1,000\n" in capsys.readouterr().err


def test_markdown_has_the_same_cells(
    document: Json,
    five: Path,
    capsys: Streams,
) -> None:
    assert run([*FIVE, "--out", str(five), "--markdown"]) == 0
    out = capsys.readouterr().out
    assert out == (five / "comparison.md").read_text()
    table = [line for line in out.splitlines() if line.startswith("|")]
    head, marks, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    assert set(marks) == {"---", "---:"}
    assert len(marks) == len(head)
    wanted = [[cell.replace("\n", " ") for cell in row] for row in table_rows(document)]
    assert [head, *rows] == wanted


# Several seeds.


def test_several_seeds_give_means_with_their_intervals(capsys: Streams) -> None:
    told = compared(capsys, *FIVE, "--seeds", "3", "--seed", "4", "--fair-steps", "0")
    assert told["seeds"] == [4, 5, 6]
    first, *others = told["variants"]
    assert first["difference_to_first"] is None
    for one in told["variants"]:
        assert [done["seed"] for done in one["runs"]] == [4, 5, 6]
        values = [done["test_accuracy"] for done in one["runs"]]
        assert one["test_accuracy"]["mean"] == pytest.approx(np.mean(values))
        half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(values)
        assert one["test_accuracy"]["half_width"] == pytest.approx(half)
    for one in others:
        mine, yours = (np.array([done["test_accuracy"] for done in each["runs"]]) for each in (one, first))
        apart = mine - yours
        assert one["difference_to_first"]["mean"] == pytest.approx(apart.mean())
        assert one["difference_to_first"]["half_width"] == pytest.approx(
            scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(apart)
        )
    head, *rows = table_rows(told)
    column = head.index("test, above\nthe first")
    assert rows[0][column] == ""
    assert rows[1][column] == "+0.00 \N{PLUS-MINUS SIGN} 0.00"
    mean, half = others[-1]["test_accuracy"].values()
    assert rows[-1][1] == f"{100 * mean:.2f} \N{PLUS-MINUS SIGN} {100 * half:.2f}%"
    one = compared(capsys, *FIVE, "--seed", "5", "--fair-steps", "0")
    assert timeless(one["variants"][4]["runs"]) == timeless(told["variants"][4]["runs"][1:2])


@pytest.mark.usefixtures("unplanted")
def test_of_several_seeds_it_is_said_what_they_decide(capsys: Streams) -> None:
    drawn = "initial weights, order of the images, training images, test images"
    for args, decided in (
        ((*FAIR, "--seeds", "2"), f"({drawn})"),
        ((*FAIR, "--seeds", "2", "--first"), "(initial weights, order of the images), on one test set"),
    ):
        assert run([*args]) == 0
        third = capsys.readouterr().out.splitlines()[2]
        assert third.endswith(f" 95% confidence interval over what a seed decides {decided}")


def tamper(monkeypatch: pytest.MonkeyPatch, edit: Callable[[Json, int], Json]) -> None:
    """Let every proof be what ``edit`` makes of it and its seed."""
    proved = ComparisonRuns.proved

    def edited(self: ComparisonRuns, pair: Pair, seed: int) -> tuple[Json | None, bool]:
        proof, known = proved(self, pair, seed)
        assert proof is not None
        return edit(proof, seed), known

    monkeypatch.setattr(ComparisonRuns, "proved", edited)


@pytest.mark.usefixtures("unplanted")
def test_of_several_proofs_the_least_is_told(capsys: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(proof: Json, seed: int) -> Json:
        free = {**proof["free_run"], "horizon_step": (None, 7, 5)[seed]}
        return {**proof, "smallest_detectable_fault": (1e-14, 3e-14, 2e-14)[seed], "free_run": free}

    tamper(monkeypatch, found)
    (pair,) = compared(capsys, *FAIR[:-1], "2", "--seeds", "3")["pairs"]
    assert pair["smallest_detectable_fault"] == 3e-14
    sentence = pair_sentence(pair)
    assert "this would have caught is a gradient times 1 + 3.0e-14; the horizon, " in sentence
    assert " parts any two runs, is step 5 in 2 of 3 seeds. " in sentence


@pytest.mark.usefixtures("unplanted")
def test_of_several_seeds_the_worst_verdict_counts(capsys: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, lambda proof, seed: {**proof, **({"verdict": "inconclusive"} if seed == 1 else {})})
    told = compared(capsys, *FAIR[:-1], "2", "--steps", "3", "--seeds", "2", code=3)
    assert told["verdict"] == told["pairs"][0]["verdict"] == "inconclusive"
    assert pair_sentence(told["pairs"][0]).startswith("NumPy and PyTorch (seed 1): INCONCLUSIVE: ")


# What should be equal and is not.


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a fault in NumPy's side: a gradient that is a thousandth too large."""
    right = Linear.forward

    def forward(self: Linear, x: Array, context: Context = Context()) -> Any:  # noqa: ANN401, B008  as Linear's
        y, backward = right(self, x, context)

        def wrong(dy: Array) -> Any:  # noqa: ANN401  as Linear's
            dx, gradients = backward(dy)
            return dx, {**gradients, "weight": 1.001 * gradients["weight"]}

        return y, wrong

    monkeypatch.setattr(Linear, "forward", forward)


@pytest.mark.usefixtures("faulty")
def test_a_fault_in_numpys_side_is_told_and_named(capsys: Streams) -> None:
    assert run([*FIVE]) == 1
    out = capsys.readouterr().out
    assert out.count("fail (4 of 80)") == 2
    assert "NumPy batch 1 and PyTorch batch 1: FAIL: NumPy and PyTorch are not the same program. They part at" in out
    assert "step 0, backward, 2.weight[" in out
    assert "2.weight's gradient is 1.001 times the reference's everywhere" in out


LATE = 60
LONGER = (*FAIR[:-2], "--epochs", "5", "--lr", "0.5")


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a fault in NumPy's side that begins at step ``LATE``: from there on it climbs."""
    right = Program.numpy_engine

    def climbing(self: Program) -> Engine:
        return right(self).planted(GradientScale("2.weight", -1.0, begin=LATE))

    monkeypatch.setattr(Program, "numpy_engine", climbing)


@pytest.mark.usefixtures("late", "unplanted")
@pytest.mark.parametrize("fair_steps", [0, 20])
def test_a_fault_after_the_steps_compared_is_not_explained_away(fair_steps: int, capsys: Streams) -> None:
    told = compared(capsys, *LONGER, "--fair-steps", str(fair_steps), code=3)
    (pair,) = told["pairs"]
    assert (told["verdict"], pair["verdict"]) == ("inconclusive", "inconclusive")
    assert pair["proved"] == ("pass" if fair_steps else None)
    (one,) = pair["differences"]
    assert (one["explained"], len(one["shadows"])) == (False, 3)
    sentence = pair_sentence(pair)
    assert sentence.startswith("INCONCLUSIVE: NumPy and PyTorch ")
    assert "; rounding does not explain that: runs of NumPy alone that start one rounding apart " in sentence
    assert sentence.endswith(
        f". --fair-steps N compares {'more' if fair_steps else 'their'} steps, to find where they part."
    )


@pytest.mark.long
@pytest.mark.usefixtures("late")
def test_more_steps_find_a_late_fault_as_the_sentence_says(capsys: Streams) -> None:
    (pair,) = compared(capsys, *LONGER, "--fair-steps", str(LATE + 10), code=1)["pairs"]
    assert f"FAIL: NumPy and PyTorch are not the same program. They part at step {LATE}, backward" in pair_sentence(
        pair
    )
    assert [one["shadows"] for one in pair["differences"]] == [[]]  # nothing is left to explain


CHAOTIC = (
    "compare", "--preset", "fair", "--dataset", "digits", "--train-size", "60", "--dtype", "float32", "--epochs", "10",
    "--network", "Linear(784, 16), Sigmoid(), Linear(16, 16), Sigmoid(), Linear(16, 10)",
    "--weights", "Normal(0, 0.3)", "--lr", "1",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.usefixtures("unplanted")
@pytest.mark.parametrize("fair_steps", later([10, 0], 1))
def test_what_rounding_alone_does_to_chaotic_runs_is_shown_by_runs_of_numpy_alone(
    fair_steps: int, capsys: Streams
) -> None:
    told = compared(capsys, *CHAOTIC, "--fair-steps", str(fair_steps))
    (pair,) = told["pairs"]
    assert told["verdict"] == pair["verdict"] == ("pass" if fair_steps else None)
    (one,) = pair["differences"]
    ours, theirs = (each["runs"][0] for each in told["variants"])
    nudged = [ours, *one["shadows"]]
    for name in ("test_accuracy", "train_accuracy"):
        assert one["apart"][name] == pair["largest_differences"][name] == abs(ours[name] - theirs[name])
        assert one["rounding"][name] == max(abs(a[name] - b[name]) for a in nudged for b in nudged) > 0
    apart, rounding = (100 * one[name]["test_accuracy"] for name in ("apart", "rounding"))
    sentence = pair_sentence(pair)
    assert f" Their accuracies differ, by {apart:.2g} points of test and " in sentence
    assert (
        f"rounding can do that: runs of NumPy alone that start one rounding apart differ by up to {rounding:.2g} "
        in (sentence)
    )


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both sides come to other accuracies, whatever they have learned."""
    trained = ComparisonRuns.trained

    def apart(self: ComparisonRuns, variant: Variant, seed: int) -> Any:  # noqa: ANN401  as trained
        found, known = trained(self, variant, seed)
        accuracy = {"numpy": 0.5, "torch": 0.9}[variant.engine]
        return {**found, "train_accuracy": accuracy, "test_accuracy": accuracy}, known

    monkeypatch.setattr(ComparisonRuns, "trained", apart)


@pytest.mark.usefixtures("unplanted")
@pytest.mark.parametrize(
    ("args", "steps", "fixture"),
    [
        ((*FAIR[:-2], "--steps", "6"), 6, "parted"),
        pytest.param(CHAOTIC, 600, "unplanted", marks=pytest.mark.long),  # rounding itself parts them
    ],
    ids=["parted", "chaotic"],
)
def test_where_every_step_agrees_that_is_the_verdict_however_far_the_numbers_part(
    args: tuple[str, ...], steps: int, fixture: str, request: pytest.FixtureRequest, capsys: Streams
) -> None:
    request.getfixturevalue(fixture)
    (pair,) = compared(capsys, *args, "--fair-steps", str(steps))["pairs"]
    assert [(one["explained"], one["shadows"]) for one in pair["differences"]] == [(True, [])]
    sentence = pair_sentence(pair)
    assert sentence.startswith(f"PASS: NumPy and PyTorch are the same program in all {steps} steps, which agree ")
    assert sentence.endswith(" points of training accuracy, and every step agrees: rounding has parted them.")


@pytest.mark.long
@pytest.mark.usefixtures("unplanted")
def test_a_seed_that_nothing_explains_is_told_before_one_that_is_further_apart(
    capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = ComparisonRuns.trained
    tests = {(0, "numpy"): 0.5, (0, "torch"): 0.9, (1, "numpy"): 0.5, (1, "torch"): 0.7, (2, "torch"): 0.5}

    def apart(self: ComparisonRuns, variant: Variant, seed: int) -> Any:  # noqa: ANN401  as trained
        found, known = trained(self, variant, seed)
        return {**found, "train_accuracy": 0.5, "test_accuracy": tests.get((seed, variant.engine), 0.5)}, known

    def shadowed(_: ComparisonRuns, __: Variant, seed: int, index: int) -> Any:  # noqa: ANN401  as shadowed
        return {"test_accuracy": 0.5 + 0.1 * index * (seed == 0), "train_accuracy": 0.5, "seconds": 0.0}, False

    monkeypatch.setattr(ComparisonRuns, "trained", apart)
    monkeypatch.setattr(ComparisonRuns, "shadowed", shadowed)
    (pair,) = compared(capsys, *FAIR[:-1], "2", "--seeds", "3", code=3)["pairs"]
    assert [(one["seed"], one["explained"]) for one in pair["differences"]] == [(0, True), (1, False)]
    assert pair["largest_differences"] == {"test_accuracy": pytest.approx(0.4), "train_accuracy": 0}
    assert " Their accuracies differ, from seed 1, by 20 points of test " in pair_sentence(pair)


def test_a_run_that_is_not_finite_is_inconclusive_and_said(capsys: Streams) -> None:
    assert run([*OVERFLOWING]) == 3
    out = capsys.readouterr().out
    assert "NumPy and PyTorch: INCONCLUSIVE: stopped at step 0, where " in out
    assert "warning: NumPy: stopped at step 0, where " in out
    assert "is not finite on the side of NumPy" in out


# What is kept.


@pytest.mark.long
def test_a_comparison_that_was_stopped_goes_on_as_if_it_had_not_been(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    out = tmp_path / "out"
    trained = ComparisonRuns._train
    made: list[str] = []

    def stopped_at(last: str) -> None:
        def train(self: ComparisonRuns, variant: Variant, run: Run) -> Any:  # noqa: ANN401  as _train
            if variant.name == last:
                raise KeyboardInterrupt
            made.append(variant.name)
            return trained(self, variant, run)

        monkeypatch.setattr(ComparisonRuns, "_train", train)

    for name in ("PyTorch batch 1", "PyTorch from NumPy's weights", "nobody"):
        stopped_at(name)
        code = run([*FIVE, "--out", str(out)])
        assert code == (0 if name == "nobody" else 130)
        told = f"what has ended is kept in {out / 'runs.jsonl'}: the same command goes on from there"
        assert (told in capsys.readouterr().err) == (name != "nobody")
    assert made == [one.name for one in variants_of("sigmoid-mse")]  # each once
    whole, resumed = (strict((folder / "comparison.json").read_text()) for folder in (five, out))
    assert timeless(whole["variants"]) == timeless(resumed["variants"])
    assert timeless(whole["pairs"]) == timeless(resumed["pairs"])


def test_stopped_without_a_folder_says_what_would_have_kept_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ComparisonRuns, "_train", stopped)
    assert run([*FAIR]) == 130
    assert "nothing is kept; with --out DIR what has ended would be" in capsys.readouterr().err


def test_what_is_kept_is_not_trained_again(five: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams) -> None:
    before = strict((five / "comparison.json").read_text())
    monkeypatch.setattr("nets.training.Training", None)
    monkeypatch.setattr("nets.training.train_fair", None)
    again = compared(capsys, *FIVE, "--out", five)
    assert again["variants"] == before["variants"]  # seconds, too
    assert again["pairs"] == before["pairs"]


def test_more_seeds_go_on_with_those_that_are_kept(tmp_path: Path, capsys: Streams) -> None:
    out = tmp_path / "out"
    (one, *_) = compared(capsys, *FAIR, "--out", out)["variants"]
    assert run([*FAIR, "--out", str(out), "--seeds", "2", "--json"]) == 0
    streams = capsys.readouterr()
    assert streams.err.count("(kept)") == 2
    assert strict(streams.out)["variants"][0]["runs"][0] == one["runs"][0]


def test_lost_weights_are_trained_again(five: Path, tmp_path: Path, capsys: Streams) -> None:
    out = tmp_path / "out"
    shutil.copytree(five, out)
    (weights,) = (out / "weights").iterdir()
    (out / "runs.jsonl").write_text("".join(_lines_without(five, "PyTorch from NumPy's weights")))
    unfinished = (out / "runs.jsonl").read_text()
    for damage in (weights.unlink, lambda: weights.write_bytes(b"damaged")):
        damage()
        (out / "runs.jsonl").write_text(unfinished)
        told = compared(capsys, *FIVE, "--out", out)
        kept = strict((five / "comparison.json").read_text())
        assert timeless(told["variants"]) == timeless(kept["variants"])
        assert weights.read_bytes() == next((five / "weights").iterdir()).read_bytes()


def test_lost_weights_that_nothing_needs_are_not(five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    shutil.copytree(five, out)
    shutil.rmtree(out / "weights")
    monkeypatch.setattr("nets.training.Training", None)
    assert run([*FIVE, "--out", str(out)]) == 0
    assert (out / "runs.jsonl").read_bytes() == (five / "runs.jsonl").read_bytes()


@pytest.mark.long
@pytest.mark.usefixtures("unplanted")
def test_what_asks_for_less_shows_all_that_is_kept(tmp_path: Path, capsys: Streams) -> None:
    out = tmp_path / "out"
    whole = compared(capsys, *FAIR[:-1], "5", "--seeds", "3", "--out", out)
    written = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "comparison.json"}
    for less in (("0",), ("2", "--seeds", "2", "--seed", "1")):
        told = compared(capsys, *FAIR[:-1], *less, "--out", out)
        assert {**told, "environment": {}} == {**whole, "environment": {}}
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.name != "comparison.json"} == written


@pytest.mark.long
@pytest.mark.usefixtures("unplanted")
def test_a_proof_of_fewer_steps_does_not_stand_in_for_one_of_more(tmp_path: Path, capsys: Streams) -> None:
    for steps in (2, 5, 3):
        (pair,) = compared(capsys, *FAIR[:-1], str(steps), "--out", tmp_path / "out")["pairs"]
        (proof,) = pair["runs"]
        assert pair["steps"] == proof["lock_step"]["steps_compared"] == max(steps, 5 if steps != 2 else 2)


@pytest.mark.long
@pytest.mark.usefixtures("unplanted")
def test_seeds_without_a_proof_are_not_told_as_proved(tmp_path: Path, capsys: Streams) -> None:
    compared(capsys, *FAIR[:-1], "5", "--out", tmp_path / "out")
    (pair,) = compared(capsys, *FAIR, "--seeds", "3", "--out", tmp_path / "out")["pairs"]
    assert [proof["seed"] for proof in pair["runs"]] == [0]
    assert " in the first 5 of 80 steps from 1 of 3 seeds, which agree " in pair_sentence(pair)


@pytest.mark.long
@pytest.mark.usefixtures("unplanted")
def test_of_proofs_of_unequal_length_the_shortest_is_told(tmp_path: Path, capsys: Streams) -> None:
    compared(capsys, *FAIR[:-1], "5", "--out", tmp_path / "out")
    (pair,) = compared(capsys, *FAIR[:-1], "3", "--seeds", "2", "--out", tmp_path / "out")["pairs"]
    assert [proof["steps"] for proof in pair["runs"]] == [5, 3]
    assert " in the first 3 of 80 steps from each of 2 seeds, which agree " in pair_sentence(pair)


def test_a_seed_that_is_not_finished_is_not_shown_unless_asked_for(tmp_path: Path, capsys: Streams) -> None:
    out = tmp_path / "out"
    compared(capsys, *FAIR, "--seeds", "2", "--out", out)
    lines = (out / "runs.jsonl").read_text().splitlines(keepends=True)
    (out / "runs.jsonl").write_text("".join(lines[:3]))  # of the second seed one variant alone
    assert compared(capsys, *FAIR, "--out", out)["seeds"] == [0]
    assert compared(capsys, *FAIR, "--seeds", "2", "--out", out)["seeds"] == [0, 1]


@pytest.mark.long
def test_shadows_are_kept_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams) -> None:
    whole = compared(capsys, *CHAOTIC, "--fair-steps", "0", "--out", tmp_path / "out")
    monkeypatch.setattr("nets.training.Training", None)
    again = compared(capsys, *CHAOTIC, "--fair-steps", "0", "--out", tmp_path / "out")
    assert {**again, "environment": {}} == {**whole, "environment": {}}


def test_a_log_of_other_versions_is_refused(five: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams) -> None:
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda part: "0.0" if part == "torch" else version(part))
    told = refused(capsys, 2, *FIVE, "--out", five)
    assert re.fullmatch(rf"--out: {re.escape(str(five))} holds another comparison: torch is .* there, not 0\.0", told)


def _lines_without(folder: Path, start: str) -> list[str]:
    lines = (folder / "runs.jsonl").read_text().splitlines(keepends=True)
    return [line for line in lines if json.loads(line)["key"].get("start") is None or not start]


def test_a_folder_of_something_else_is_refused(five: Path, tmp_path: Path, capsys: Streams) -> None:
    for option, value, told in (
        ("--epochs", "3", "--epochs or --steps (in steps) is 80 there, not 120"),
        ("--steps", "3", "--epochs or --steps (in steps) is 80 there, not 3"),
        ("--test-size", "30", "--test-size is 20 there, not 30"),
        ("--train-size", "30", "--train-size is 40 there, not 30"),
        ("--dtype", "float32", "--dtype is float64 there, not float32"),
        ("--loss", "QuadraticCost()", "--loss is MSELoss() there, not QuadraticCost()"),
        ("--preset", "sigmoid-bce", "--preset is sigmoid-mse there, not sigmoid-bce"),
    ):
        other = refused(capsys, 2, *FIVE, option, value, "--out", five)
        assert other == f"--out: {five} holds another comparison: {told}"
    (tmp_path / "mine.txt").touch()
    assert refused(capsys, 2, *FAIR, "--out", tmp_path) == (
        f"--out needs a new or empty folder; {tmp_path} has something in it"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_log_is_refused_with_its_line(five: Path, tmp_path: Path, capsys: Streams) -> None:
    log = tmp_path / "runs.jsonl"
    log.write_text((five / "runs.jsonl").read_text().replace('"test_accuracy": 0.', '"test_accuracy": 1.', 1))
    assert f"{log}, line 1, is not as it was written" in refused(capsys, 4, *FIVE, "--out", tmp_path)


def test_a_folder_that_cannot_be_written_costs_no_training(tmp_path: Path, capsys: Streams) -> None:
    (tmp_path / "file").touch()
    assert "file" in refused(capsys, 4, *FAIR, "--out", tmp_path / "file" / "out")


# What cannot be.


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("--preset", "sigmoid-mse", "--batch-size", "2"),
            "--batch-size: the variants of sigmoid-mse differ in it, 1 and 32;"
            " drop it, or compare one of them: --preset sigmoid-mse:scale-0.1",
        ),
        (
            ("--preset", "mlp", "--lr", "1"),
            "--lr: the variants of mlp differ in it, 0.01 and 0.001;"
            " drop it, or compare one of them: --preset mlp-wide",
        ),
        (("--preset", "nobody"), "there is no preset 'nobody'; there are "),
        (("--json", "--markdown"), "--json and --markdown are two forms of one result; drop one"),
        (
            ("--seed", str(2**53 - 1), "--seeds", "3"),
            f"--seeds: 3 seeds from {2**53 - 1} on go past the last, {2**53}; lower --seed",
        ),
        (("--seeds", "1"), "Invalid value for '--seeds': 1 is not in the range x>=2."),
        (
            ("--schedule", "ReduceLROnPlateau(0.1)"),
            "ReduceLROnPlateau needs validation losses, which neither a fair run nor a trace takes;"
            " with --fair-steps 0 no steps are compared",
        ),
        (
            ("--schedule", "ReduceLROnPlateau(0.1)", "--fair-steps", "0"),
            "ReduceLROnPlateau needs validation images, got none: give a validation size",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(args: tuple[str, ...], message: str, capsys: Streams) -> None:
    assert refused(capsys, 2, "compare", *TINY, *args).startswith(message)


def test_sizes_and_epochs_are_for_all_even_where_presets_differ_in_them(capsys: Streams) -> None:
    sizes = ("--train-size", "30", "--epochs", "1", "--test-size", "20", "--validation-size", "10")
    told = compared(capsys, "compare", "--preset", "nielsen", "--dataset", "digits", *sizes, "--fair-steps", "0")
    assert {(one["train_size"], one["epochs"]) for one in told["variants"]} == {(30, 1)}


# The figure.


def test_the_figure_shows_the_numbers(document: Json) -> None:
    upper, lower = draw(document).axes
    for axes, field, scale in ((upper, "train_accuracy", 100), (lower, "train_loss", 1)):
        lines = {line.get_gid(): line for line in axes.get_lines()}
        assert list(lines) == [one["name"] for one in document["variants"]]
        for one in document["variants"]:
            (done,) = one["runs"]
            wanted = [scale * epoch[field] for epoch in done["epochs"]]
            np.testing.assert_allclose(np.asarray(lines[one["name"]].get_ydata()), wanted)
            np.testing.assert_array_equal(np.asarray(lines[one["name"]].get_xdata()), [1, 2])
        ours, theirs = (lines[name] for name in document["pairs"][0]["variants"])
        assert ours.get_linewidth() > 2 * theirs.get_linewidth()  # so that both are seen where they are equal
        assert ours.get_zorder() <= theirs.get_zorder()


@pytest.mark.long
def test_curves_that_happen_to_be_equal_are_all_seen(document: Json, capsys: Streams) -> None:
    sizes = ("--train-size", "30", "--epochs", "1", "--test-size", "20", "--validation-size", "10", "--fair-steps", "0")
    pairs = compared(capsys, "compare", "--preset", "nielsen", "--dataset", "digits", *sizes)
    for told in (document, pairs):
        lines = draw(told).axes[0].get_lines()
        (svg,) = rendered(functools.partial(draw, told), "svg")
        dashed = [line for line in lines if line.get_linestyle() == "--"]
        assert len(set(re.findall(r"stroke-dasharray: [^;]+; stroke-dashoffset: [^;]+", svg.decode()))) == len(dashed)
        drawn = sorted(lines, key=lambda line: line.get_zorder())
        for under, upon in itertools.pairwise(drawn):
            assert upon.get_linewidth() <= under.get_linewidth()
            assert upon.get_markersize() <= under.get_markersize()
        assert len({(line.get_marker(), line.get_markersize()) for line in lines}) == len(lines)


def test_a_loss_that_falls_far_has_a_logarithmic_axis(document: Json) -> None:
    losses = [epoch for one in document["variants"] for epoch in one["runs"][0]["epochs"]]
    for epoch in losses:
        epoch["train_loss"] = 0.25
    assert draw(document).axes[1].get_yscale() == "linear"
    losses[1]["train_loss"] = 0.025
    assert draw(document).axes[1].get_yscale() == "log"


def test_several_seeds_are_a_mean_and_a_band(capsys: Streams) -> None:
    told = compared(capsys, *FAIR, "--seeds", "3")
    upper, _ = draw(told).axes
    (done, _) = told["variants"]
    values = np.array([[100 * epoch["train_accuracy"] for epoch in one["epochs"]] for one in done["runs"]])
    line = next(line for line in upper.get_lines() if line.get_gid() == "NumPy")
    np.testing.assert_allclose(np.asarray(line.get_ydata()), values.mean(axis=0))
    band = next(each for each in upper.collections if each.get_gid() == "band of NumPy")
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(values.min()), pytest.approx(values.max()))


def test_losses_of_different_kinds_share_no_axis(capsys: Streams) -> None:
    sizes = ("--train-size", "30", "--epochs", "1", "--test-size", "20", "--validation-size", "10")
    told = compared(capsys, "compare", "--preset", "nielsen", "--dataset", "digits", *sizes, "--fair-steps", "0")
    figure = draw(told)
    assert len(figure.axes) == 1
    assert "QuadraticCost and CrossEntropyLoss, are of different kinds" in str(figure.get_supxlabel())


@pytest.mark.usefixtures("drawn")
def test_the_same_numbers_give_the_same_bytes(document: Json, five: Path, tmp_path: Path) -> None:
    shutil.copytree(five, tmp_path / "out", ignore=shutil.ignore_patterns("convergence.*"))
    assert run([*FIVE, "--out", str(tmp_path / "out")]) == 0
    drawn = [(tmp_path / "out" / f"convergence.{form}").read_bytes() for form in FORMS]
    assert [rendered(lambda: draw(document), form)[0] for form in FORMS] == drawn


@pytest.mark.usefixtures("drawn")
def test_a_run_that_ended_in_its_first_epoch_has_a_figure(capsys: Streams, tmp_path: Path) -> None:
    assert run([*OVERFLOWING, "--out", str(tmp_path / "out")]) == 3
    capsys.readouterr()
    assert (tmp_path / "out" / "convergence.png").exists()


@pytest.mark.usefixtures("drawn")
def test_without_matplotlib_all_else_is_written(
    tmp_path: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run([*FAIR, "--out", str(tmp_path / "out")]) == 0
    assert "no figure is drawn without Matplotlib" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comparison.json", "comparison.md", "runs.jsonl"}


# On real MNIST.


@pytest.mark.long
@pytest.mark.usefixtures("unplanted")
def test_numpy_and_pytorch_are_equal_on_mnist_too(mnist_dir: Path, capsys: Streams) -> None:
    data = ("--dataset", "mnist", "--data-dir", mnist_dir, "--test-size", "500")
    told = compared(capsys, "compare", "--preset", "sigmoid-bce", *data, "--epochs", "1", "--fair-steps", "30")
    assert (told["verdict"], told["dataset"]["name"]) == ("pass", "mnist")
    assert [one["updates_per_epoch"] for one in told["variants"]] == [1000, 1000, 32, 32, 32]
    _, ours, theirs, *_ = table_rows(told)
    assert ours[1:7] == theirs[1:7]
