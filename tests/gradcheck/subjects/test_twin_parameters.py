# mypy: ignore-errors
"""A layer's parameters find their places in a twin's, and where they cannot, the line to write is named."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gradcheck.checks import check_layer
from gradcheck.contract import Case
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import Settings, forward_agrees_with_twin, gradients_agree_with_twin
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.twin_parameters import Slot

torch = pytest.importorskip("torch")

GATES = ("r", "z", "n")
X = np.random.default_rng(0).standard_normal((2, 3, 4))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Recurrent:
    """A gated recurrent unit (batch, time, in), with weights (in, out) of each gate apart."""

    def __init__(self, inside=4, out=3):
        rng = np.random.default_rng(1)
        self.params, self.grads = {}, {}
        for gate in GATES:
            self.params[f"W{gate}"] = rng.standard_normal((inside, out))
            self.params[f"U{gate}"] = rng.standard_normal((out, out))
            self.params[f"b{gate}"] = rng.standard_normal(out)
            self.params[f"c{gate}"] = rng.standard_normal(out)

    def forward(self, x):
        p, self.x, self.steps = self.params, x, []
        h = np.zeros((len(x), p["br"].size), x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            a = {gate: x[:, t] @ p[f"W{gate}"] + p[f"b{gate}"] for gate in GATES}
            u = {gate: h @ p[f"U{gate}"] + p[f"c{gate}"] for gate in GATES}
            r, z = sigmoid(a["r"] + u["r"]), sigmoid(a["z"] + u["z"])
            n = np.tanh(a["n"] + r * u["n"])
            self.steps.append((h, r, z, n, u["n"]))
            h = (1 - z) * n + z * h
            outputs.append(h)
        return np.stack(outputs, 1)

    def backward(self, dy):
        p, self.grads = self.params, {name: np.zeros_like(array) for name, array in self.params.items()}
        dx, dh = np.zeros_like(self.x), np.zeros_like(dy[:, 0])
        for t in reversed(range(dy.shape[1])):
            h, r, z, n, un = self.steps[t]
            d = dy[:, t] + dh
            dn = d * (1 - z) * (1 - n * n)
            da = {"r": dn * un * r * (1 - r), "z": d * (h - n) * z * (1 - z), "n": dn}
            du = {**da, "n": dn * r}
            dh = d * z
            for gate in GATES:
                self.grads[f"W{gate}"] += self.x[:, t].T @ da[gate]
                self.grads[f"U{gate}"] += h.T @ du[gate]
                self.grads[f"b{gate}"] += da[gate].sum(0)
                self.grads[f"c{gate}"] += du[gate].sum(0)
                dx[:, t] += da[gate] @ p[f"W{gate}"].T
                dh = dh + du[gate] @ p[f"U{gate}"].T
        return dx


class LastState(Recurrent):
    """Returns the last state alone."""

    def forward(self, x):
        self.time = x.shape[1]
        return super().forward(x)[:, -1]

    def backward(self, dh):
        dy = np.zeros((len(dh), self.time, dh.shape[1]), dh.dtype)
        dy[:, -1] = dh
        return super().backward(dy)


def places(order=GATES):
    found = {}
    for i, gate in enumerate(order):
        part = f"[{3 * i}:{3 * i + 3}]"
        found[f"W{gate}"], found[f"U{gate}"] = f"weight_ih_l0{part}.T", f"weight_hh_l0{part}.T"
        found[f"b{gate}"], found[f"c{gate}"] = f"bias_ih_l0{part}", f"bias_hh_l0{part}"
    return found


def check(layer, twin, **options):
    """Compare output and gradients with the twin's, of the input as it is given."""
    case = Case(ForeignLayer.of(layer, X), (X,), twin=twin, **options)
    return [
        claim(case, Settings(dtypes=("float64",), explain=False))
        for claim in (forward_agrees_with_twin, gradients_agree_with_twin)
    ]


def verdicts(*arguments, **options):
    return [outcome.verdict for outcome in check(*arguments, **options)]


RIGHT, WRONG = [Verdict.PASS] * 2, [Verdict.FAIL] * 2


def gru():
    torch.manual_seed(0)
    return torch.nn.GRU(4, 3, batch_first=True)


@pytest.mark.long
def test_gates_of_their_own_are_parts_of_fused_weights() -> None:
    assert verdicts(Recurrent(), gru(), twin_params=places()) == RIGHT
    assert verdicts(Recurrent(), gru(), twin_params=places(("z", "r", "n"))) == WRONG


def test_of_several_outputs_that_of_the_same_shape_is_compared() -> None:
    assert verdicts(LastState(), gru(), twin_params=places()) == RIGHT
    assert verdicts(LastState(), gru(), twin_params=places(("z", "r", "n"))) == WRONG


class Affine:
    def __init__(self, **params):
        self.params, self.grads = params, {}

    def matrix(self):
        """Return the first parameter, in the form in which it multiplies x."""
        first = next(iter(self.params.values()))
        return first if len(first) == 4 else first.T

    def forward(self, x):
        self.x = x
        return x @ self.matrix() + self.params.get("b", 0.0)

    def backward(self, dy):
        name, first = next(iter(self.params.items()))
        grad = np.einsum("bti,bto->io", self.x, dy)
        self.grads[name] = grad if len(first) == 4 else grad.T
        return dy @ self.matrix().T


def test_what_no_parameter_is_must_be_zero() -> None:
    layer, twin, given = Affine(W=X[0].T.copy()), torch.nn.Linear(4, 3), {"W": "weight.T"}
    line = "no parameter of Affine's is bias of its twin, or not all of it: say which in twin_params=, or set it to 0"
    with pytest.raises(AdapterError, match=re.escape(f"{line}, twin.bias.data.zero_()")):
        check_layer(layer, X, twin=twin, twin_params=given)
    twin.bias.data.zero_()
    assert verdicts(layer, twin, twin_params=given) == RIGHT
    assert check_layer(layer, X, twin=twin, twin_params=given)


MISTAKES = {
    "another name": ({"Wr": "weight_ih[0:3].T"}, "Recurrent's Wr is the twin's weight_ih, which there is not"),
    "not turned": ({"Wr": "weight_ih_l0[0:3]"}, "Recurrent's Wr has shape (4, 3), weight_ih_l0[0:3] has (3, 4); .T"),
    "taken": ({"Wr": "weight_ih_l0[3:6].T"}, "a part of which another parameter is, too"),
    "too many axes": ({"br": "bias_ih_l0[0:3, 0]"}, "bias_ih_l0[0:3, 0] is no part of bias_ih_l0 (9,)"),
    "no part": ({"Wr": "weight_ih_l0[a].T"}, "a part of the twin's is written as 'weight_ih_l0[0:3].T'"),
    "an unknown one": ({"Wx": "weight_ih_l0[0:3].T"}, "twin_params names Wx, and Recurrent's parameters are Wr, Ur"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_place_that_does_not_fit_is_a_usage_error(mistake) -> None:
    changed, text = MISTAKES[mistake]
    with pytest.raises(AdapterError, match=re.escape(text)):
        check(Recurrent(), gru(), twin_params=places() | changed)


def test_a_twin_with_other_parameters_says_what_to_write() -> None:
    with pytest.raises(AdapterError) as caught:
        check(Recurrent(), gru())
    said = str(caught.value)
    assert "it has Wr (4, 3), Ur (3, 3), br (3,)" in said
    assert "the twin weight_ih_l0 (9, 4), weight_hh_l0 (9, 3), bias_ih_l0 (9,), bias_hh_l0 (9,)" in said
    assert "such as twin_params={'Wr': 'weight_ih_l0[0:3].T', 'Wz': 'weight_ih_l0[3:6].T'" in said
    assert "'Ur': 'weight_hh_l0[0:3].T'" in said


SAID = {
    "named": (Affine(W=np.ones((4, 4)), b=np.ones(4)), torch.nn.Linear(4, 4), "params={'weight': 'W', 'bias': 'b'}"),
    "turned": (Affine(W=np.ones((4, 3)), b=np.ones(3)), torch.nn.Linear(4, 3), "params={'weight': 'W.T', 'bias': 'b'}"),
    "one too few": (
        Affine(weight=np.ones((3, 4))),
        torch.nn.Linear(4, 3),
        "it has no others, the twin bias (3,); make the twin without what the layer has not, as by bias=False",
    ),
    "alike": (
        Affine(weights=np.ones((4, 3)), scale=np.ones(5)),
        torch.nn.Linear(4, 3),
        "weight may be weights transposed",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_names_and_shapes_tell_which_belong_together(case) -> None:
    layer, twin, text = SAID[case]
    with pytest.raises(AdapterError, match=re.escape(text)):
        check(layer, twin)


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        ("weight", Slot("weight")),
        ("0.weight.T", Slot("0.weight", (), turned=True)),
        ("lstm.w[0:3]", Slot("lstm.w", (slice(0, 3),))),
        ("w[:, -2:].T", Slot("w", (slice(None), slice(-2, None)), turned=True)),
        ("w[1]", Slot("w", (1,))),
    ],
)
def test_places_are_read_as_they_are_written(text, slot) -> None:
    assert Slot.of(text) == slot
