"""An engine of a function in NumPy or JAX is compared with torch, its names fit or are told, and faults are found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory import FunctionEngine, TorchEngine, TrajectoryReport, check_trajectory
from gradcheck.trajectory.check import Silence
from gradcheck.trajectory.engine import Batch, Engine
from gradcheck.trajectory.probing import Trait

LR, BETAS = 0.05, (0.9, 0.999)

NAMES = {
    "params.W1": "param/0.weight.T",
    "params.b1": "param/0.bias",
    "params.W2": "param/2.weight.T",
    "params.b2": "param/2.bias",
    "m": "optim/exp_avg",
    "v": "optim/exp_avg_sq",
    "t": "step",
}


def reference(dtype: torch.dtype = torch.float64) -> TorchEngine:
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).to(dtype)
    return TorchEngine(module, cross_entropy, torch.optim.Adam(module.parameters(), LR))


def start(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Return the state of a program that multiplies from the left, as NumPy's do: ``x @ W``."""
    own = {name: param.detach().numpy().copy() for name, param in reference(dtype).module.named_parameters()}
    params = {"W1": own["0.weight"].T.copy(), "b1": own["0.bias"], "W2": own["2.weight"].T.copy(), "b2": own["2.bias"]}
    zeros = {name: np.zeros_like(array) for name, array in params.items()}
    return {"params": params, "m": zeros, "v": copy.deepcopy(zeros), "t": 0}


def step(
    state: Mapping[str, Any], batch: Batch, tap: Callable[[str, Any], Any] = lambda _, array: array, scale: float = 1.0
) -> tuple[dict[str, Any], float, dict[str, Any]]:
    """Take a step of Adam; the gradient of W1 is scaled."""
    p = state["params"]
    rows = np.arange(len(batch.y))
    hidden = tap("1.output", np.tanh(tap("0.output", batch.x @ p["W1"] + p["b1"])))
    out = tap("2.output", hidden @ p["W2"] + p["b2"])
    exps = np.exp(out - out.max(axis=1, keepdims=True))
    shares = tap("loss/shares", exps / exps.sum(axis=1, keepdims=True))
    d = shares.copy()
    d[rows, batch.y] -= 1
    d = tap("backward/loss.prediction", d / len(d))
    dz = tap("backward/0.output", tap("backward/1.output", d @ p["W2"].T) * (1 - hidden**2))
    grads = {"W1": scale * (batch.x.T @ dz), "b1": dz.sum(axis=0), "W2": hidden.T @ d, "b2": d.sum(axis=0)}
    t, params, m, v = state["t"] + 1, {}, {}, {}
    for name, grad in grads.items():
        m[name] = BETAS[0] * state["m"][name] + (1 - BETAS[0]) * grad
        v[name] = BETAS[1] * state["v"][name] + (1 - BETAS[1]) * grad**2
        root = np.sqrt(v[name] / (1 - BETAS[1] ** t)) + 1e-8
        params[name] = p[name] - batch.lr * m[name] / (1 - BETAS[0] ** t) / root
    loss = -np.log(shares[rows, batch.y]).mean()
    return {"params": params, "m": m, "v": v, "t": t}, loss, {"grads": grads, "outputs": out}


def batches(count: int, dtype: type = np.float64) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [Batch(rng.standard_normal((4, 5)).astype(dtype), rng.integers(0, 3, 4), LR) for _ in range(count)]


def tapped(scale: float = 1.0) -> FunctionEngine:
    return FunctionEngine(lambda state, batch, tap: step(state, batch, tap, scale), start(), NAMES)


def untapped(scale: float = 1.0, dtype: torch.dtype = torch.float64) -> FunctionEngine:
    return FunctionEngine(lambda state, batch: step(state, batch, scale=scale), start(dtype), NAMES)


def check(ours: Engine, theirs: Engine, count: int = 12, dtype: type = np.float64) -> TrajectoryReport:
    return check_trajectory(ours, theirs, batches(count, dtype), sensitivity=False)


def test_numpy_against_torch_agrees_in_every_tensor_that_both_show() -> None:
    report = check(tapped(), reference())
    assert report, report.first_divergence
    assert report.notes == ()
    assert report.lock_step.alone == {"ours": ("loss/shares",), "theirs": ("backward/2.output",)}


@pytest.mark.short(1)
@pytest.mark.parametrize("order", [lambda a, b: (a, b), lambda a, b: (b, a)])
def test_without_taps_what_both_show_is_compared(order: Callable[[Any, Any], tuple[Engine, Engine]]) -> None:
    report = check(*order(untapped(), reference()))
    assert report.verdict is not Verdict.FAIL
    assert "forward/0.output" in {name for names in report.lock_step.alone.values() for name in names}
    assert report or report.silence is Silence.NO_TAPS


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("ours", "theirs", "dtype"),
    [
        (tapped(1 + 1e-7), reference(), np.float64),
        (untapped(1 + 1e-5), reference(), np.float64),
        (untapped(1.5, torch.float32), reference(torch.float32), np.float32),
    ],
)
def test_a_wrong_gradient_is_found_in_the_right_tensor_at_the_first_step(
    ours: Engine, theirs: Engine, dtype: type
) -> None:
    report = check(ours, theirs, 3, dtype)
    found = report.first_divergence
    assert report.verdict is Verdict.FAIL
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (0, "backward", "0.weight")


def test_in_float32_a_right_function_without_taps_is_not_accused() -> None:
    report = check(untapped(dtype=torch.float32), reference(torch.float32), dtype=np.float32)
    assert report or report.silence is Silence.NO_TAPS


def test_a_state_is_loaded_as_it_was_shown_and_the_given_one_is_left_alone() -> None:
    given = start()
    one = FunctionEngine(step, given, NAMES)
    context = Context(training=True, key=Key(0, 0))
    for batch in batches(3):
        one.step(*batch, context)
    assert given["t"] == 0
    assert not given["m"]["W1"].any()
    again = FunctionEngine(step, given, NAMES)
    again.load(one.state())
    steps = [engine.step(*batches(4)[3], context) for engine in (one, copy.deepcopy(again), again)]
    states = [{key: array.tobytes() for key, array in each.updated.items()} for each in steps]
    assert states[0] == states[1] == states[2]


def test_hidden_state_is_told() -> None:
    kept = {"v": np.zeros((5, 6))}

    def hiding(state: Mapping[str, Any], batch: Batch, tap: Callable[[str, Any], Any]) -> Any:  # noqa: ANN401
        kept["v"] = 0.9 * kept["v"] + 1e-3
        after, loss, shown = step(state, batch, tap)
        after["params"]["W1"] = after["params"]["W1"] - kept["v"]
        return after, loss, shown

    report = check(FunctionEngine(hiding, start(), NAMES), reference(), 4)
    assert {note.trait for note in report.notes} & {Trait.HIDDEN, Trait.NOT_REPEATABLE}
    assert not report


class Moments(NamedTuple):
    """What an optimizer keeps, as libraries for JAX nest it."""

    steps: Array
    mu: dict[str, Array]


PARAMS = {"a": np.ones((2, 3)), "b.c": np.ones(2)}


@pytest.mark.parametrize(
    ("state", "names", "keys"),
    [
        ({"params": PARAMS, "velocity": PARAMS}, {}, ["param/a", "param/b.c", "optim/velocity/b.c"]),
        ((PARAMS, (Moments(np.array(1), PARAMS), ())), {"1.0.steps": "step"}, ["param/a", "optim/1.0.mu/b.c", "step"]),
        ({"params": {"enc": PARAMS}, "buffers": {"mean": np.ones(2)}}, {}, ["param/enc.a", "buffer/mean"]),
        ({"a": PARAMS["a"], "m": PARAMS["a"]}, {"a": "param/0.weight.T", "m": "optim/mu/0.weight.T"},
         ["param/0.weight", "optim/mu/0.weight"]),
        ({"params": PARAMS, "mu": PARAMS}, {"params.a": "param/x.T", "mu": "optim/exp_avg"},
         ["param/x", "optim/exp_avg/x", "optim/exp_avg/b.c"]),
        ({"params": np.ones(3), "optim": {"m": np.ones(3)}}, {}, ["param/value", "optim/m"]),
        ({"net": PARAMS}, {"net": "param/net"}, ["param/net.a", "param/net.b.c"]),
    ],
)  # fmt: skip
def test_names_are_those_of_the_contract(state: Any, names: dict[str, str], keys: list[str]) -> None:  # noqa: ANN401
    shown = FunctionEngine(step, state, names).state()
    assert set(keys) <= set(shown)
    assert shown["step"] == (1 if "1.0.steps" in names else 0)
    turned = [key for key in keys if key.endswith(("0.weight", "/x"))]
    assert all(shown[key].shape == (3, 2) for key in turned)


@pytest.mark.parametrize(
    ("state", "names", "message"),
    [
        ({"W": np.ones(3)}, {}, "the state has W, and none are called parameters; write"),
        ({"W": np.ones(3)}, {"W": "weights/W"}, "names has 'weights/W' for 'W'; write param/..."),
        ({"params": PARAMS}, {"params.a": "param/w", "params.b.c": "param/w"}, "have one name, param/w; give names"),
    ],
)
def test_names_that_do_not_fit_are_refused(state: Any, names: dict[str, str], message: str) -> None:  # noqa: ANN401
    with pytest.raises(AdapterError) as caught:
        FunctionEngine(step, state, names)
    assert message in str(caught.value)


def test_other_names_of_slots_are_listed_with_what_to_write() -> None:
    names = {path: name for path, name in NAMES.items() if path not in {"m", "v"}}
    with pytest.raises(AdapterError) as caught:
        check(FunctionEngine(step, start(), names), reference(), 1)
    assert "both states need the same names after a step" in str(caught.value)
    assert "only ours has optim/m/0.weight (6, 5)" in str(caught.value)
    assert "only the reference has optim/exp_avg/0.weight (6, 5)" in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda state: state, "step returned a dict; it is to return (state, loss) or"),
        (lambda state: (state, np.ones(2)), "step returned ndarray as its loss, which is no number"),
        (lambda state: (state, 0.0, [1]), "step shows a list; a dict of arrays by name is needed"),
        (lambda state: ({**state, "new": np.ones(2)}, 0.0), "a state with new, and without nothing; begin with zeros"),
    ],
)
def test_a_step_that_returns_something_else_is_refused(returned: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(AdapterError) as caught:
        check(FunctionEngine(lambda state, _: returned(state), start(), NAMES), reference(), 1)
    assert message in str(caught.value)


def test_jax_trains_as_torch_does() -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def loss_of(params: Any, x: Any, y: Any) -> Any:  # noqa: ANN401
        out = jnp.tanh(x @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]
        return -jax.nn.log_softmax(out)[jnp.arange(len(y)), y].mean(), out

    def step_of(state: Any, batch: Batch) -> Any:  # noqa: ANN401
        (loss, out), grads = jax.value_and_grad(loss_of, has_aux=True)(state["params"], batch.x, batch.y)
        params = jax.tree.map(lambda p, g: p - batch.lr * g, state["params"], grads)
        return {"params": params}, loss, {"grads": grads, "outputs": out}

    theirs = reference()
    theirs = TorchEngine(theirs.module, cross_entropy, torch.optim.SGD(theirs.module.parameters(), LR))
    state = {"params": {name: jnp.asarray(array) for name, array in start()["params"].items()}}
    report = check(FunctionEngine(step_of, state, NAMES), theirs)
    assert report or report.silence is Silence.NO_TAPS
