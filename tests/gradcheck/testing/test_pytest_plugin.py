"""What a user of pytest meets: sessions of pytest of their own, with the plugin as installing registers it."""

from __future__ import annotations

import gc
import io
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

import nets.layers
from gradcheck import AdapterError, Case, check_layer, parametrize_with_checks
from gradcheck.contract import Layer, Loss
from gradcheck.subjects.layer import ForeignLayer

ROOT = Path(__file__).parents[3]
Session = Callable[..., str]
STRICT = ("-W", "error", "--strict-markers", "-v", "-rsx")
OURS = ("PYTEST", "COV_")  # begin the variables by which our own session of pytest would meddle

LAYERS = """
import numpy as np

class Dense:
    bias_gradient = staticmethod(lambda dy: dy.sum(axis=0))

    def __init__(self, inputs, outputs):
        rng = np.random.default_rng(0)
        self.params = {"W": rng.standard_normal((inputs, outputs)), "b": rng.standard_normal(outputs)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy):
        self.grads = {"W": self.x.T @ dy, "b": self.bias_gradient(dy)}
        return dy @ self.params["W"].T

class MeanDense(Dense):
    bias_gradient = staticmethod(lambda dy: dy.mean(axis=0))

class InPlaceReLU:
    def forward(self, x):
        self.mask = x > 0
        x *= self.mask
        return x.copy()

    def backward(self, dy):
        return dy * self.mask

class Halved:
    def forward(self, prediction, target):
        self.error = prediction - target
        return 0.5 * np.mean(self.error**2)

    def backward(self):
        return self.error / self.error.size

x = np.random.default_rng(1).standard_normal((4, 3))
"""
IMPORTS = """
import numpy as np
import pytest
from gradcheck import parametrize_with_checks
from layers import Dense, Halved, InPlaceReLU, MeanDense, x
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder from which Python takes mnistcheck for installed, its plugin of pytest with it."""
    registered = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [f"{name} = {value}" for name, value in registered["pytest11"].items()]
    information = tmp_path / "site" / "mnistcheck-0.dist-info"  # read before that of the environment, if there is one
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mnistcheck\nVersion: 0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]), encoding="utf-8")
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "gradcheck").rglob("*.py")]
    (information / "RECORD").write_text("".join(f"{file},,\n" for file in files), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "layers.py").write_text(LAYERS, encoding="utf-8")
    return information.parent


@pytest.fixture
def session(tmp_path: Path, installed: Path) -> Session:
    """Return a function that runs pytest, in a process of its own, on a test module and returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]), "COLUMNS": "200"}

    def run(tests: str, *options: str) -> str:
        (tmp_path / "test_them.py").write_text(tests, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", *STRICT, *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return run


@pytest.fixture
def inner(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Return a function that does the same in this process, which has imported torch and all else already."""
    for name in [name for name in os.environ if name.startswith(OURS) and name != "PYTEST_CURRENT_TEST"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(installed), str(ROOT), *sys.path])
    theirs = {"layers", "test_them"}
    assert not theirs & sys.modules.keys()

    def run(tests: str, *options: str) -> str:
        (tmp_path / "test_them.py").write_text(tests, encoding="utf-8")
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            pytest.main([*STRICT, "-p", "no:cacheprovider", "-p", "no:faulthandler", *options])
        return printed.getvalue()

    gc.freeze()  # a session ends in several full collections: of what it made, not of all that this process has
    yield run
    gc.unfreeze()
    for name in theirs & sys.modules.keys():
        del sys.modules[name]


def outcomes(output: str) -> dict[str, str]:
    """Return the outcome of every test by its id."""
    return dict(re.findall(r"test_them\.py::\w+\[(\S+)\] (PASSED|FAILED|SKIPPED|XFAIL)", output))


def test_a_right_layer_passes_one_test_a_property(inner: Session) -> None:
    output = inner(
        IMPORTS + "from gradcheck import Case\nfrom nets.layers import Linear, Tanh\n"
        "from nets.losses import MSELoss\nfrom nets.schedules import ConstantRate\n"
        "from nets.initializers import Normal\n"
        "@parametrize_with_checks([Linear, ConstantRate(0.1), Normal, (Dense(3, 2), x), (Halved(), x, 2 * x),\n"
        "    (Tanh(), x), Case(MSELoss(), (x, 2 * x))], examples=2)\n"
        "def test(check):\n    check()\n"
    )
    results = outcomes(output)
    assert "FAILED" not in results.values(), output
    assert "warning" not in output
    assert results["Linear-gradients_agree_with_differences"] == "PASSED"
    assert results["Linear-forward_agrees_with_twin"] == "PASSED"
    assert results["ConstantRate-rates_agree_with_twin"] == "PASSED"
    assert results["Normal-draws_agree_with_twin"] == "PASSED"
    assert results["Dense-gradients_agree_with_differences"] == "PASSED"
    assert results["Halved-gradients_agree_with_differences"] == "PASSED"
    assert results["Tanh-wrong_shapes_are_refused"] == "SKIPPED"
    assert results["Tanh-gradients_agree_with_twin"] == results["MSELoss-gradients_agree_with_twin"] == "PASSED"
    assert "Dense-forward_agrees_with_twin" not in results
    assert results["Dense-modes_are_restored"] == "SKIPPED"
    assert "modes_are_restored does not apply: the layer has no modes" in output


def test_a_wrong_layer_fails_with_the_cause_and_the_element(inner: Session) -> None:
    output = inner(IMPORTS + "@parametrize_with_checks([(MeanDense(3, 2), x)])\ndef test(check):\n    check()\n")
    assert outcomes(output)["MeanDense-gradients_agree_with_differences"] == "FAILED"
    assert outcomes(output)["MeanDense-arguments_are_left_untouched"] == "PASSED"
    assert "b's gradient is exactly 1/4 of the numerical one; 4 is the batch size" in output
    assert re.search(r"b\[\d\]: analytic", output)
    assert "test_them.py:8: GradientMismatch" in output
    assert "checks.py:" not in output  # no frames of ours


def test_the_fixture_fails_the_test_and_returns_the_report_of_a_pass(inner: Session) -> None:
    output = inner(
        IMPORTS + "from gradcheck.properties import PROPERTIES\n"
        "from gradcheck.properties.gradients import gradients_agree_with_differences as differences\n"
        "from tests.gradcheck.trajectory.neuron import Neuron, batches, weights\n"
        "def test_right(gradcheck):\n"
        "    assert gradcheck.check_layer(Dense(3, 2), x, claims=[differences]).subject == 'Dense'\n"
        "    assert gradcheck.check_loss(Halved(), x, 2 * x, claims=[differences])\n"
        "    assert gradcheck.check_gradients(np.sin, (x,), lambda inputs, dy: (dy * np.cos(inputs[0]),))\n"
        "    assert gradcheck.check_trajectory(Neuron(weights()), Neuron(weights()), batches(3))\n"
        "def test_wrong(gradcheck):\n    gradcheck.check_layer(MeanDense(3, 2), x, claims=[differences])\n"
        "def test_parted(gradcheck):\n"
        "    twice = Neuron(weights(), corrupt=lambda _, grad: 2 * grad)\n"
        "    gradcheck.check_trajectory(twice, Neuron(weights()), batches(3))\n"
        "def test_silent(gradcheck):\n    gradcheck.check_layer(Dense(3, 2), np.nan * x, claims=[differences])\n"
        "def test_untrained(gradcheck):\n    gradcheck.check_trajectory(Neuron(weights()), Neuron(weights()), [])\n"
        "def test_without_input(gradcheck):\n    gradcheck.check_layer(Dense(3, 2))\n"
    )
    assert "5 failed, 1 passed" in output
    assert "GradientMismatch: FAIL: MeanDense: " in output
    assert "TrajectoryMismatch: FAIL: ours and the reference are not the same program." in output
    assert "\nnothing could be told of Dense: the output is not finite\n" in output
    assert "\nNo step was compared: there were no batches.\n" in output
    assert "AdapterError: check_layer needs an input to try the layer on: check_layer(layer, x)" in output
    assert "checks.py:" not in output


def test_expected_failures_have_to_fail(inner: Session) -> None:
    output = inner(
        IMPORTS + "@parametrize_with_checks([(Dense(3, 2), x), (MeanDense(3, 2), x), (MeanDense(3, 2), x)],\n"
        "    expected_failures={'MeanDense-gradients_agree_with_differences': 'a mean',\n"
        "        'precisions_agree': 'why not', 'MeanDense_2-gradients_of_samples_do_not_mix': 'the same mean'},\n"
        "    claims=['gradients_agree_with_differences', 'gradients_of_samples_do_not_mix', 'precisions_agree'])\n"
        "def test(check):\n    check()\n"
    )
    results = outcomes(output)
    assert results["Dense-gradients_agree_with_differences"] == "PASSED"
    for number in (1, 2):
        assert results[f"MeanDense_{number}-gradients_agree_with_differences"] == "XFAIL"
    assert results["MeanDense_1-gradients_of_samples_do_not_mix"] == "FAILED"
    assert results["MeanDense_2-gradients_of_samples_do_not_mix"] == "XFAIL"
    assert results["Dense-precisions_agree"] == "FAILED"
    assert "[XPASS(strict)] why not" in output
    assert re.search(r"XFAIL .*MeanDense_1-gradients_agree_with_differences\] - a mean", output)


FORGETFUL = IMPORTS + (
    "from gradcheck.testing import Item\n"
    "class Forgetful:\n"
    "    def __init__(self): self.gain = np.array([1.0, 2.0, 3.0])\n"
    "    def forward(self, x): return x * self.gain\n"
    "    def backward(self, dy): return dy * self.gain\n"
    "@parametrize_with_checks([(Forgetful(), x), Item(Forgetful(), x, constant='gain')], ids=['ada', 'bob'],\n"
    "    claims=['gradients_agree_with_differences'])\n"
    "def test(check):\n    check()\n"
    "def test_it(gradcheck):\n    gradcheck.check_layer(Forgetful(), x)\n"
)
NOT_CHECKED = "NOT CHECKED: gain: the output depends on it, and no gradient was found"


def test_a_pass_that_left_something_out_is_seen_in_a_default_session(inner: Session) -> None:
    output = inner(FORGETFUL, "-W", "default")
    assert "3 passed, 2 warnings" in output
    assert f"test_them.py:14: UncheckedWarning: ada: {NOT_CHECKED}" in output
    assert f"test_them.py:16: UncheckedWarning: Forgetful: {NOT_CHECKED}" in output


def test_a_pass_that_left_something_out_fails_where_warnings_are_errors(inner: Session) -> None:
    output = inner(FORGETFUL, "-W", "error")
    assert "2 failed, 1 passed" in output
    assert re.search(rf"^E .*UncheckedWarning: ada: {NOT_CHECKED}", output, flags=re.MULTILINE)
    assert "unchecked.py" not in output  # no frames of ours
    output = inner(FORGETFUL, "-W", "ignore::gradcheck.testing.UncheckedWarning")
    assert "3 passed" in output
    assert "warning" not in output


def test_what_cannot_be_read_has_not_failed_as_expected(inner: Session) -> None:
    output = inner(
        IMPORTS + "@parametrize_with_checks([(Halved(), x)],\n"
        "    claims=['backward_is_linear'], expected_failures={'backward_is_linear': 'as ever'})\n"
        "def test(check):\n    check()\n"
    )
    assert outcomes(output)["Halved-backward_is_linear"] == "FAILED"
    assert "AdapterError: Halved.forward also needs target" in output


def test_what_could_not_be_told_is_skipped_with_its_reason(inner: Session) -> None:
    output = inner(IMPORTS + "@parametrize_with_checks([(Dense(3, 2), np.nan * x)])\ndef test(check):\n    check()\n")
    assert outcomes(output)["Dense-gradients_agree_with_differences"] == "SKIPPED"
    assert "inconclusive: the output is not finite" in output


def test_a_session_without_torch_skips_what_needs_it(session: Session) -> None:
    output = session(
        "import sys\nsys.modules['torch'] = None\n"
        "from gradcheck import parametrize_with_checks\nfrom nets.layers import Tanh\n"
        "@parametrize_with_checks([Tanh], examples=2)\ndef test(check):\n    check()\n"
    )
    assert outcomes(output)["Tanh-gradients_agree_with_differences"] == "PASSED"
    assert outcomes(output)["Tanh-forward_agrees_with_twin"] == "SKIPPED"
    assert "inconclusive: PyTorch is not installed: pip install 'mnistcheck[torch]'" in output


def test_what_cannot_be_checked_is_said_at_the_line_that_names_it(inner: Session) -> None:
    output = inner(IMPORTS + "@parametrize_with_checks([Dense(3, 2)])\ndef test(check):\n    check()\n")
    (message,) = re.findall(r"^E .*", output, flags=re.MULTILINE)
    assert message.endswith("got an object of Dense without an input: write (dense, x)")
    assert "test_them.py:6: in <module>" in output
    assert "parametrization.py" not in output


OF_MANY = (
    IMPORTS + "import nets.layers\n"
    "@parametrize_with_checks([*nets.layers.LAYERS, (Dense(3, 2), x), (Dense(3, 2), x)])\n"
    "def test(check):\n    check()\n"
)


def test_collecting_imports_no_torch_and_loading_the_plugin_no_numpy_and_processes_agree_on_ids(
    session: Session, inner: Session, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(
        "import sys\nloaded = {'gradcheck.testing.pytest_plugin', 'numpy', 'hypothesis'} & sys.modules.keys()\n"
        "def pytest_collection_finish(session):\n"
        "    print('loaded', *loaded, 'collected', *{'torch', 'nets.layers'} & sys.modules.keys(), 'end')\n"
    )
    output = session(OF_MANY, "--collect-only")
    assert "loaded gradcheck.testing.pytest_plugin collected nets.layers end" in output, output
    (tmp_path / "conftest.py").unlink()
    theirs, ours = (re.findall(r"<Function (.+)>", each) for each in (output, inner(OF_MANY, "--collect-only")))
    assert theirs == ours  # or pytest-xdist would refuse its workers
    assert {"test[Sigmoid-gradients_agree_with_differences]", "test[Dense_2-precisions_agree]"} <= set(ours)


OF_TIMES = (
    IMPORTS + "@pytest.mark.parametrize('times', [1, 2])\n"
    "@parametrize_with_checks([(Halved(), x[:2], x[2:]), (Halved(), x[2:], x[:2])])\n"
    "def test(check, times, tmp_path):\n    assert [check() for _ in range(times)]\n"
)


def passed_and_skipped(output: str) -> list[str]:
    return re.findall(r"(\d+ passed, \d+ skipped)", output)


@pytest.mark.long
def test_further_arguments_are_free(inner: Session) -> None:
    output = inner(OF_TIMES)
    assert outcomes(output)["Halved_2-gradients_agree_with_differences-2"] == "PASSED"
    assert passed_and_skipped(output)


@pytest.mark.long
def test_workers_agree_on_ids(session: Session, inner: Session) -> None:
    assert passed_and_skipped(session(OF_TIMES, "-p", "xdist", "-n", "2")) == passed_and_skipped(inner(OF_TIMES)) != []


def test_the_example_of_the_readme_passes(inner: Session) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = (each for each in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "(gradcheck)" in each)
    output = inner(example)
    assert "FAILED" not in output, output
    assert outcomes(output)["InPlaceReLU-arguments_are_left_untouched"] == "XFAIL"
    assert "::test_dense PASSED" in output


OF_THE_PAGE = (
    LAYERS
    + """
from types import SimpleNamespace

class InPlaceDense(Dense):
    def forward(self, x):
        y = super().forward(x.copy())
        x *= 0
        return y

class Odd:
    def __init__(self, inputs):
        self.W = np.random.default_rng(0).standard_normal((inputs, 2))

    def go(self, x):
        self.x = x
        return x @ self.W

    def come(self, dy):
        self.change = self.x.T @ dy
        return dy @ self.W.T

def affine_forward(x, w, b):
    return x @ w + b, (x, w)

def affine_backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)

w, b = np.ones((3, 2)), np.ones(2)
alice, bob = SimpleNamespace(Dense=Dense), SimpleNamespace(Dense=InPlaceDense)
MeanSquares = Halved
"""
)


def test_the_example_of_the_page_on_ones_own_code_passes(inner: Session, tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text(OF_THE_PAGE, encoding="utf-8")
    page = (ROOT / "docs" / "check-your-code.md").read_text(encoding="utf-8")
    (example,) = (each for each in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "(gradcheck)" in each)
    output = inner(example)
    results = outcomes(output)
    assert "FAILED" not in output, output
    assert results["bob-Dense-arguments_are_left_untouched"] == "XFAIL"
    names = ("alice-Dense", "bob-Dense", "affine_forward", "Halved", "Odd")
    assert {results[f"{name}-gradients_agree_with_differences"] for name in names} == {"PASSED"}
    assert "::test_dense PASSED" in output


class Unfinished(Layer):
    """A layer without anything."""


class Silent(Loss):
    """A loss that has a forward pass only; it is never called."""

    def forward(self, prediction, target, context=None):  # type: ignore[no-untyped-def]  # noqa: ANN201, ANN001
        raise NotImplementedError

    def twin(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        raise NotImplementedError

    @classmethod
    def cases(cls):  # type: ignore[no-untyped-def]  # noqa: ANN206
        raise NotImplementedError


class Foreign:
    """Forward and backward, and no more."""

    def forward(self, x: object) -> object:
        return x

    def backward(self, dy: object) -> object:
        return dy


X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (Foreign(), r"got an object of Foreign without an input: write \(foreign, x\)"),
        ((Foreign(),), r"got \(<.*Foreign object"),
        (Foreign, r"got the class Foreign: write \(Foreign\(\.\.\.\), x\)"),
        ((Foreign, X), r"got the class Foreign: write \(Foreign\(\.\.\.\), x\)"),
        (Case(3, (X,)), r"got 3"),
        ("Linear", r"got 'Linear'"),
        (Unfinished, "Unfinished cannot be checked yet: it lacks cases, forward, twin"),
        ((Silent(), X), r"a Loss needs a prediction and a target: write \(silent, prediction, target\)"),
    ],
)
def test_an_item_that_cannot_be_checked_is_refused(item: object, said: str) -> None:
    with pytest.raises(AdapterError, match=said) as caught:
        parametrize_with_checks([nets.layers.Linear, item])
    assert "\n" not in str(caught.value)


def test_a_case_of_a_foreign_layer_brings_its_twin_and_an_adapted_one_its_names() -> None:
    import torch

    cases = [Case(Foreign(), (X,), twin=torch.nn.Identity()), Case(ForeignLayer.of(Foreign(), X), (X,))]
    checks = [parameters.values[0] for parameters in parametrize_with_checks(cases).args[1]]
    held = {repr(check): check().verdict for check in checks if "-gradients_agree_with_" in repr(check)}
    assert sorted(held) == [
        "Foreign_1-gradients_agree_with_differences",
        "Foreign_1-gradients_agree_with_twin",
        "Foreign_2-gradients_agree_with_differences",
    ]


def test_inputs_near_overflow_warn_of_nothing_of_ours() -> None:
    assert check_layer(Foreign(), np.array([[1e308, -1e308], [1.0, 2.0]])).findings


def test_no_items_are_refused() -> None:
    with pytest.raises(AdapterError, match="parametrize_with_checks needs items to check: a tuple"):
        parametrize_with_checks([])


@pytest.mark.parametrize("name", ["gradients_are_right", "Linear-modes_are_restored", "Dense-precisions_agree"])
def test_an_expected_failure_that_nothing_tests_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^expected_failures names {name}, .* precisions_agree, .* Linear-$"):
        parametrize_with_checks([nets.layers.Linear], expected_failures={name: "because"})


def test_an_expected_failure_needs_its_reason() -> None:
    with pytest.raises(ValueError, match="expected_failures needs a reason for precisions_agree"):
        parametrize_with_checks([nets.layers.Linear], expected_failures={"precisions_agree": ""})
