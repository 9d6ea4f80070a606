"""The faults of the published comparisons: each is caught and its cause named; its right variant passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import gradcheck
from examples.case_studies import (
    another_loss,
    divided_twice,
    layers,
    missing_axis,
    page,
    runs,
    stuck_output,
    tied_maxima,
)
from gradcheck.contract import Context, Key, Layer
from gradcheck.files import write_whole
from gradcheck.numerics.agreement import Verdict
from nets.datasets.digits import load_digits
from nets.datasets.mnist import load_mnist
from nets.layers import Linear, MaxPool2d
from nets.presets import PRESETS
from nets.run import prepare
from tests.long import later

Told = Callable[[ModuleType], str]

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "case-studies.md").read_text(encoding="utf-8")

FAULTS = {
    layers.DividedTwice: "W's gradient is exactly 1/4 of the numerical one; 4 is the batch size",
    layers.BiasWithoutAnAxis: (
        "every element of b's gradient is the same: the sum over all elements, where each needs its own: "
        "an axis is missing from the sum"
    ),
    layers.DescendsAnother: (
        "prediction's gradient is exactly 5 times the numerical one; 5 is half the number of elements (batch x outputs)"
    ),
    layers.NeverOff: "it is random in evaluation, as a dropout that is left on",
}


def report_of(kind: type) -> gradcheck.Report:
    ((subject, *inputs),) = kind.cases()  # type: ignore[attr-defined]  # each of them has some
    check = gradcheck.check_loss if len(inputs) == 2 else gradcheck.check_layer
    return check(subject, *inputs)


@pytest.mark.parametrize("kind", [layers.Dense, layers.MeanSquares, layers.Dropout])
def test_the_right_variant_passes(kind: type) -> None:
    report = report_of(kind)
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("kind", later(FAULTS, 1))
def test_the_fault_is_caught_and_named(kind: type) -> None:
    report = report_of(kind)
    assert report.verdict is Verdict.FAIL
    assert FAULTS[kind] in str(report)


# What the checker says in each case, whatever the digits.
WORDS = {
    divided_twice: [
        "> weight's gradient is exactly 1/4 of the numerical one; 4 is the batch size",
        "5.weight's gradient is exactly 1/4 of the reference's; 4 is the batch size.",
    ],
    another_loss: [
        "> prediction's gradient is exactly 5 times the numerical one; 5 is half the number of elements",
        "other loss reported: the loss told is MSELoss, but the one descended is SummedBCELoss",
        "PASS: NumPy and PyTorch are the same program: all of ",
    ],
    missing_axis: [
        "> every element of bias's gradient is the same: the sum over all elements, where each needs its own: "
        "an axis is missing from the sum",
        "2.bias's gradient is ",  # the same everywhere, or zero where the sum does not even round
    ],
    stuck_output: [
        "PASS: Linear: ", "PASS: Sigmoid: ", "PASS: QuadraticCost: ",
        "recognises no test image of class",
        "> it is random in evaluation, as a dropout that is left on",
        "2.output has dropout in it, p = 0.2, which is left on in evaluation.",
        "validated on test images: the validation images are test images, too",
    ],
    tied_maxima: [
        "> input's gradient goes in full to each of several tied elements, as to all tied maxima of a pool: "
        "together they may have it once",
        "PASS: pool: ",
    ],
}  # fmt: skip


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return what tells a case at a glance of the bundled digits, once for all processes of this session."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def tell(case: ModuleType) -> str:
        path = folder / f"{name_of(case)}.md"
        if not path.exists():
            write_whole(path, "\n\n".join(case.story(page.Study(load_digits(), quick=True))).encode())
        return path.read_text(encoding="utf-8")

    return tell


def name_of(case: ModuleType) -> str:
    return case.__name__.rpartition(".")[2]


# Told in a second; the others take longer, and are told in the long run.
QUICK = {missing_axis}
CASES = [pytest.param(case, marks=() if case in QUICK else pytest.mark.long) for case in WORDS]


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_case_is_told_in_the_words_of_the_checker(case: ModuleType, told: Told) -> None:
    for words in WORDS[case]:
        assert words in told(case)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_page_has_the_words_that_the_checker_has_now(case: ModuleType, told: Told) -> None:
    for words in WORDS[case]:
        assert words in PAGE
    for block in re.findall(r"```python\n.*?```", told(case), flags=re.DOTALL):
        assert block in PAGE
    for line in told(case).splitlines():
        if re.match(r"## |(FAIL|PASS): \w+: ", line):
            assert line in PAGE


def test_the_page_is_of_the_data_that_it_names(mnist_dir: Path) -> None:
    assert load_mnist(mnist_dir).sha256 in PAGE


def test_a_headline_is_what_the_report_says() -> None:
    report = gradcheck.check_layer(divided_twice.DividedTwice(np.ones((2, 3)), None), np.ones((4, 3)))
    right = gradcheck.check_layer(Linear(np.ones((2, 3)), None), np.ones((4, 3)))
    assert page.named(report) in str(report)
    assert page.named(right) == "cause unknown"


@pytest.mark.long
def test_without_its_fault_a_layer_passes_on_the_same_digits() -> None:
    run = prepare(PRESETS["nnmnist"], load_digits())
    last = runs.chain(run.model()).layers[-1]
    assert gradcheck.check_layer(last, runs.before(run.model(), -1, run.inputs(run.train[:4]))).verdict is Verdict.PASS
    run = prepare(PRESETS["cnn"], load_digits())
    patch = run.inputs(run.train[:1])[:, :, 10:18, 10:18]
    assert gradcheck.check_layer(MaxPool2d(2), patch).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("faulty", "preset", "wrong", "unlike"),
    [
        (divided_twice.DividedTwice, "cnn:scratch", {"3.weight": 1 / 4, "5.weight": 1 / 4}, ()),
        (missing_axis.BiasWithoutAnAxis, "nnmnist", {"2.bias": 0.0}, ("0.bias",)),
        (None, "cnn:scratch", {}, ()),
    ],
)
def test_a_planted_network_is_wrong_by_its_fault_alone(
    faulty: type[Layer] | None, preset: str, wrong: dict[str, float], unlike: tuple[str, ...]
) -> None:
    run = prepare(PRESETS[preset], load_digits(), steps=1)
    batch, context = next(run.batches()), Context(training=True, key=Key(), updates={})
    ours, theirs = (engine.step(*batch, context).grads for engine in (runs.engine(run, faulty), run.torch_engine()))
    for name in theirs.keys() - unlike:
        scale = np.abs(theirs[name]).max()
        np.testing.assert_allclose(ours[name], wrong.get(name, 1.0) * theirs[name], rtol=1e-9, atol=1e-12 * scale)


def cells(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table that has ``head`` in its first line."""
    lines = text.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("|") and head in line)
    return [line.strip("| ").split(" | ") for line in takewhile(lambda line: line.startswith("|"), lines[begin + 2 :])]


def shares(cell: str) -> list[float]:
    """Return the percentages in a cell: a mean, and a range if there is one."""
    return [float(share) for share in re.findall(r"([\d.]+)%", cell)]


def once_is_better(text: str) -> bool:
    twice, once = (shares(row[1]) for row in cells(text, "last training loss"))
    return min(once) > max(twice)


def an_accuracy_is_blind(text: str) -> bool:
    without, right = ([float(cell.rstrip("%")) / 100 for cell in row[1:3]] for row in cells(text, "largest gradient"))
    images = 10_000  # of MNIST; at a glance nothing is learned
    chance = 2 * (2 * right[0] * (1 - right[0]) / images) ** 0.5
    return min(without[1], right[1]) > 0.2 and abs(without[0] - right[0]) < chance


def it_trains(text: str) -> bool:
    return min(shares(row[2])[0] for row in cells(text, "largest gradient")) > 20


def scaled_is_better(text: str) -> bool:
    normal, scaled = (int(row[2].split()[0]) for row in cells(text, "runs that lack a class"))
    return scaled < normal


def dropout_does_harm(text: str) -> bool:
    on, off = (shares(row[1]) for row in cells(text, "dropout in evaluation"))
    return max(on) < min(off)


def biases_are_harmed_more(text: str) -> bool:
    return all(float(row[2]) > float(row[1]) for row in cells(text, "the error of"))


def seeds_differ_more(text: str) -> bool:
    wrong, right = (shares(row[1]) for row in cells(text, "goes in full to"))
    return abs(wrong[0] - right[0]) < min(max(wrong) - min(wrong), max(right) - min(right))


# What is concluded from a table's numbers, when, and what is said else.
CONCLUSIONS: list[tuple[ModuleType, str, Callable[[str], bool], str]] = [
    (divided_twice, "divided once does better than any", once_is_better, "do not show that the second division"),
    (missing_axis, "It trains anyway.", it_trains, ""),
    (missing_axis, "does not tell these two programs apart", an_accuracy_is_blind, "do not show whether an accuracy w"),
    (stuck_output, "scaled weights fewer runs lack a class", scaled_is_better, "do not show that scaled weights do"),
    (stuck_output, "every network does worse", dropout_does_harm, "do not show that it does harm"),
    (tied_maxima, "biases are harmed more than its weights: in", biases_are_harmed_more, "do not show that the first"),
    (tied_maxima, "The two means differ by less", seeds_differ_more, "do not show whether an accuracy finds this"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "said", "holds", "otherwise"),
    [pytest.param(*row, marks=() if row[0] in QUICK else pytest.mark.long) for row in CONCLUSIONS],
    ids=lambda part: getattr(part, "__name__", "-"),
)
def test_what_is_concluded_is_borne_out_by_the_numbers_beside_it(
    case: ModuleType, said: str, holds: Callable[[str], bool], otherwise: str, told: Told
) -> None:
    for text in (told(case), PAGE):
        prose = " ".join(text.split())
        assert (said in prose) == holds(text)
        assert not otherwise or (otherwise in prose) == (not holds(text))


@pytest.mark.long
def test_some_numbers_of_a_glance_bear_nothing_out_and_those_of_the_page_do(told: Told) -> None:
    glances = [holds(told(case)) for case, _, holds, _ in CONCLUSIONS]
    assert not all(glances)
    assert all(holds(PAGE) for _, _, holds, _ in CONCLUSIONS)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_one_is_no_plural(case: ModuleType, told: Told) -> None:
    assert not re.search(r"\b1 (epochs|seeds|networks|runs|steps)\b", told(case))


@pytest.mark.long
def test_the_two_losses_differ_by_20_or_more_before_the_sigmoid(told: Told) -> None:
    factors = [float(row[1]) for row in cells(told(another_loss), "least factor")]
    assert len(factors) == 2
    assert min(factors) >= 20  # 5 / (a (1 - a)), and a (1 - a) is at most 1/4


def test_output_biases_without_an_axis_stay_where_they_are(told: Told) -> None:
    (without, with_axis) = ([float(row[-1])] for row in cells(told(missing_axis), "largest gradient"))
    assert without[0] < 1e-12 < with_axis[0]


@pytest.mark.long
def test_digits_tie_and_random_numbers_do_not(told: Told) -> None:
    ties = cells(told(tied_maxima), "windows of")
    shares = {name: [float(cell.rstrip("%")) for cell in some] for name, *some in ties}
    assert shares.pop("random numbers") == [0, 0, 0]
    assert min(tied for tied, _, _ in shares.values()) > 10
    errors = [float(row[1]) for row in cells(told(tied_maxima), "the error of")]
    assert min(errors) > 0.01


def test_bundled_digits_are_named_where_no_folder_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["case", "--quick"])
    page.tell(lambda study: iter([f"{len(study.dataset.train)} digits"]))
    output = capsys.readouterr()
    assert "1797 digits" in output.out
    assert f"Data: digits, SHA-256 `{load_digits().sha256}`" in output.out
    assert output.err == "no --data-dir: on scikit-learn's bundled digits\n"


def test_a_reader_that_goes_away_ends_it_without_a_traceback() -> None:
    code = "from examples.case_studies.page import tell; tell(lambda study: iter(['a line'] * 100_000))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        assert process.stderr.read() == "no --data-dir: on scikit-learn's bundled digits\n"
    assert process.returncode == 130


def test_a_folder_without_mnist_is_one_line_and_exit_code_4(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.case_studies.divided_twice", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("MNIST is not in ")
    assert done.stderr.count("\n") == 1
