# mypy: ignore-errors
"""Optimizers as people write them: each way of calling is found, a right rule passes, and a wrong one is caught."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck.checks import check_optimizer
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError

torch = pytest.importorskip("torch")

MU = 0.9  # of the momentum that all of these are to have


def momentum(tensors):
    return torch.optim.SGD(tensors, lr=0.1, momentum=MU)


def check(optimizer, twin=momentum, steps=6, dtypes=("float64",), **options):
    return check_optimizer(optimizer, twin, steps, dtypes=dtypes, **options)


class Momentum:
    """What all styles share: a rule with a momentum that may be wrong, and velocities by key."""

    def __init__(self, mu=MU):
        self.mu, self.velocity = mu, {}

    def moved(self, key, w, g, lr):
        self.velocity[key] = self.mu * self.velocity.get(key, 0) + g
        return w - lr * self.velocity[key]


class DictsInPlace(Momentum):
    learning_rate = 0.1

    def update(self, params, grads):
        for key in params:
            params[key] += self.moved(key, params[key], grads[key], self.learning_rate) - params[key]


class DictsReplaced(Momentum):
    eta = 0.1

    def apply(self, weights, gradients):
        for key, g in gradients.items():
            weights[key] = self.moved(key, weights[key], g, self.eta)


class DictsReturned(Momentum):
    def __init__(self, mu=MU):
        super().__init__(mu)
        self.config = {"learning_rate": 0.1}

    def optimize(self, params, grads):
        return {key: self.moved(key, p, grads[key], self.config["learning_rate"]) for key, p in params.items()}


class OfACourse(Momentum):
    """Layers by number, gradients by a d and the name, the rate given."""

    def update_parameters(self, parameters, grads, learning_rate=0.1):
        for layer in range(len(parameters) // 2):
            for name in (f"W{layer + 1}", f"b{layer + 1}"):
                parameters[name] = self.moved(name, parameters[name], grads[f"d{name}"], learning_rate)
        return parameters


class ListsInPlace(Momentum):
    lr = 0.1

    def step(self, params, grads):
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            p[...] = self.moved(i, p, g, self.lr)


class ListsReturned(Momentum):
    lr = 0.1

    def __call__(self, params, grads):
        return [self.moved(i, p, g, self.lr) for i, (p, g) in enumerate(zip(params, grads, strict=True))]


class TensorReturned:
    """One of these belongs to each tensor."""

    def __init__(self, mu=MU):
        self.rate, self.mu, self.v = 0.1, mu, None

    def update(self, w, grad_wrt_w):
        if self.v is None:
            self.v = np.zeros(np.shape(w))
        self.v = self.mu * self.v + grad_wrt_w
        return w - self.rate * self.v


class TensorInPlace(Momentum):
    """One for all tensors, which it tells apart."""

    step_size = 0.1

    def update(self, x, dx):
        x -= x - self.moved(id(x), x, dx, self.step_size)


class Named(Momentum):
    alpha = 0.1

    def update(self, name, w, dw):
        return self.moved(name, w, dw, self.alpha)


class OfALayer:
    """Moves a layer, on which it leaves its velocities; told before and after each step."""

    def __init__(self, mu=MU):
        self.learning_rate = self.current_learning_rate = 0.1
        self.mu, self.decay, self.iterations = mu, 0.0, 0

    def pre_update_params(self):
        if self.decay:
            self.current_learning_rate = self.learning_rate / (1 + self.decay * self.iterations)

    def update_params(self, layer):
        for name in ("weights", "biases"):
            v = self.mu * getattr(layer, f"{name}_velocity", 0) - self.current_learning_rate * getattr(
                layer, f"d{name}"
            )
            setattr(layer, f"{name}_velocity", v)
            setattr(layer, name, getattr(layer, name) + v)

    def post_update_params(self):
        self.iterations += 1


class OfLayers(Momentum):
    lr = 0.1

    def step(self, layers):
        for i, layer in enumerate(layers):
            layer.W = self.moved((i, "W"), layer.W, layer.dW, self.lr)
            layer.b = self.moved((i, "b"), layer.b, layer.db, self.lr)


class Weight:
    def __init__(self, data):
        self.data, self.grad = np.asarray(data), None


def weights():
    rng = np.random.default_rng(3)
    return [Weight(rng.standard_normal(shape)) for shape in ((2, 3), (4,))]


class Holder(Momentum):
    lr = 0.1

    def __init__(self, mu=MU):
        super().__init__(mu)
        self.params = weights()

    def zero_grad(self):
        for p in self.params:
            p.grad = np.zeros_like(p.data)

    def step(self):
        for i, p in enumerate(self.params):
            p.data = self.moved(i, p.data, p.grad, self.lr)
        self.zero_grad()


class HolderOfGroups(Momentum):
    def __init__(self, mu=MU):
        super().__init__(mu)
        self.param_groups = [{"params": weights(), "lr": 0.1}]

    def step(self):
        for group in self.param_groups:
            for i, p in enumerate(group["params"]):
                p.data -= p.data - self.moved(i, p.data, p.grad, group["lr"])


class HolderOfDicts(Momentum):
    lr = 0.1

    def __init__(self, mu=MU):
        super().__init__(mu)
        self.params = {"W": np.ones((2, 3)), "b": np.zeros(3)}
        self.grads = {"dW": np.zeros((2, 3)), "db": np.zeros(3)}

    def step(self):
        for key, p in self.params.items():
            p[...] = self.moved(key, p, self.grads[f"d{key}"], self.lr)


class HolderOfANetwork(Momentum):
    lr = 0.1

    def __init__(self, mu=MU):
        super().__init__(mu)
        layers = [SimpleNamespace(W=np.ones((2, i + 2)), b=np.ones(3), dW=None, db=None) for i in range(2)]
        self.net = SimpleNamespace(layers=[*layers, SimpleNamespace(mask=None)])

    def step(self):
        for i, layer in enumerate(self.net.layers[:2]):
            layer.W = self.moved((i, "W"), layer.W, layer.dW, self.lr)
            layer.b = self.moved((i, "b"), layer.b, layer.db, self.lr)


class HolderOfParameters(Momentum):
    """Holds the parameters, and is given the gradients."""

    lr = 0.1

    def __init__(self, mu=MU):
        super().__init__(mu)
        self.params = [p.data for p in weights()]

    def step(self, grads):
        for i, g in enumerate(grads):
            self.params[i][...] = self.moved(i, self.params[i], g, self.lr)


class HolderOfADict(Momentum):
    """Holds a dict of parameters, and is given a dict of gradients by d and the name."""

    lr = 0.1

    def __init__(self, mu=MU):
        super().__init__(mu)
        self.params = {"W1": np.ones((2, 3)), "b1": np.zeros(3)}

    def update_params(self, grads):
        for key, p in self.params.items():
            self.params[key] = self.moved(key, p, grads["d" + key], self.lr)
        return self.params


class HolderOfLosses(Momentum):
    """Holds a model whose layers call their gradients dLdW and dLdb."""

    lr = 0.1

    def __init__(self, mu=MU):
        super().__init__(mu)
        self.l = [SimpleNamespace(W=np.ones((2, i + 2)), b=np.ones((2, 1)), dLdW=None, dLdb=None) for i in range(2)]

    def step(self):
        for i, layer in enumerate(self.l):
            layer.W = self.moved((i, "W"), layer.W, layer.dLdW, self.lr)
            layer.b = self.moved((i, "b"), layer.b, layer.dLdb, self.lr)


class OfPairsOfANetwork(Momentum):
    lr = 0.1

    def step(self, net):
        for i, (param, grad) in enumerate(net.params_and_grads()):
            param -= param - self.moved(i, param, grad, self.lr)


class Pairs(Momentum):
    lr = 0.1

    def apply_gradients(self, grads_and_vars):
        for i, (g, v) in enumerate(grads_and_vars):
            v[...] = self.moved(i, v, g, self.lr)


class OfObjects(Momentum):
    lr = 0.1

    def step(self, parameters):
        for i, p in enumerate(parameters):
            p.data = self.moved(i, p.data, p.grad, self.lr)


class OfAModel(OfLayers):
    """Moves all layers of a model, whose numbers it knows them by."""

    def step(self, model):
        super().step(model.layers)


class Numbered(Momentum):
    def __init__(self, mu=MU):
        super().__init__(mu)
        self.learningRate = 0.1

    def update(self, layer_id, w, dw):
        return self.moved(layer_id, w, dw, self.learningRate)


class InPlaceAndTheVelocity(Momentum):
    """Moves the array that it is given, and returns the velocity."""

    lr = 0.1

    def update(self, w, dw):
        w[...] = self.moved(id(w), w, dw, self.lr)
        return self.velocity[id(w)]


class ListOfDicts(Momentum):
    lr = 0.1

    def update(self, params, grads):
        for i, (layer, beside) in enumerate(zip(params, grads, strict=True)):
            for key in layer:
                layer[key] = self.moved((i, key), layer[key], beside[f"d{key}"], self.lr)


class DictOfDicts(Momentum):
    lr = 0.1

    def update(self, params, grads):
        return {
            name: {key: self.moved((name, key), p, grads[name][key], self.lr) for key, p in layer.items()}
            for name, layer in params.items()
        }


class ListOfLists(Momentum):
    lr = 0.1

    def update(self, params, grads):
        for i, layer in enumerate(params):
            for j, p in enumerate(layer):
                p[...] = self.moved((i, j), p, grads[i][j], self.lr)


def of_two(mu=MU):
    velocity = {}

    def update_parameters(w, b, dw, db, learning_rate):
        velocity["w"], velocity["b"] = mu * velocity.get("w", 0) + dw, mu * velocity.get("b", 0) + db
        return w - learning_rate * velocity["w"], b - learning_rate * velocity["b"]

    return update_parameters


def of_six(mu=MU):
    velocity = {}

    def update(W1, b1, W2, b2, W3, b3, dW1, db1, dW2, db2, dW3, db3, alpha):
        moved = []
        for i, (p, g) in enumerate(((W1, dW1), (b1, db1), (W2, dW2), (b2, db2), (W3, dW3), (b3, db3))):
            velocity[i] = mu * velocity.get(i, 0) + g
            moved.append(p - alpha * velocity[i])
        return moved

    return update


def of_lists(mu=MU):
    velocity = {}

    def update(weights, biases, nabla_w, nabla_b, eta):
        moved = {"w": [], "b": []}
        for name, arrays, grads in (("w", weights, nabla_w), ("b", biases, nabla_b)):
            for i, (p, g) in enumerate(zip(arrays, grads, strict=True)):
                velocity[name, i] = mu * velocity.get((name, i), 0) + g
                moved[name].append(p - eta * velocity[name, i])
        return moved["w"], moved["b"]

    return update


def with_config(mu=MU):
    def sgd_momentum(w, dw, config=None):
        config = {} if config is None else config
        config.setdefault("learning_rate", 0.1)
        v = mu * config.get("velocity", np.zeros_like(w)) + dw
        return w - config["learning_rate"] * v, {**config, "velocity": v}

    return sgd_momentum


def with_velocity(mu=MU):
    def update(w, dw, v, lr):
        v = mu * v + dw
        return w - lr * v, v

    return update


def with_bound_arguments(mu=MU):
    def update_with_momentum(parameters, grads, v, beta, learning_rate):
        for key in parameters:
            v[f"d{key}"] = beta * v[f"d{key}"] + grads[f"d{key}"]
            parameters[key] = parameters[key] - learning_rate * v[f"d{key}"]
        return parameters, v

    return functools.partial(update_with_momentum, beta=mu)


def closure(mu=MU):
    velocity = {}

    def step(params, grads, lr=0.1):
        for key, g in grads.items():
            velocity[key] = mu * velocity.get(key, 0) + g
            params[key] -= lr * velocity[key]

    return step


STYLES = {
    DictsInPlace: "read as: update(params, grads) on dicts, moved in place; rate in learning_rate",
    DictsReplaced: "apply(weights, gradients) on dicts, new arrays put in their places; rate in eta",
    DictsReturned: "optimize(params, grads) on dicts, returned; rate in config.learning_rate",
    OfACourse: "on dicts, gradients by d and the name, returned; rate given as learning_rate",
    ListsInPlace: "step(params, grads) on lists, moved in place; rate in lr",
    ListsReturned: "ListsReturned(params, grads) on lists, returned; rate in lr",
    TensorReturned: "update(w, grad_wrt_w) on one tensor a call, returned; one copy of it for each; rate in rate",
    TensorInPlace: "update(x, dx) on one tensor a call, moved in place; rate in step_size",
    Named: "update(name, w, dw) on one tensor a call, returned; rate in alpha",
    OfALayer: "update_params(layer) on one layer a call, with weights and dweights, biases and dbiases",
    OfLayers: "step(layers) on a list of layers, with W and dW, b and db",
    Holder: "step() on what it holds, moved in place; rate in lr",
    HolderOfGroups: "step() on what it holds, moved in place; rate in param_groups.0.lr",
    HolderOfDicts: "step() on what it holds, moved in place; rate in lr",
    HolderOfANetwork: "step() on what it holds, moved in place; rate in lr",
    HolderOfParameters: "step(grads) on the gradients of what it holds, moved in place; rate in lr",
    HolderOfADict: "update_params(grads) on the gradients of what it holds, by d and the name, moved in place",
    HolderOfLosses: "step() on what it holds, moved in place; rate in lr",
    OfPairsOfANetwork: "step(net) on a network with params_and_grads(), moved in place; rate in lr",
    Pairs: "apply_gradients(grads_and_vars) on a list of (gradient, parameter), moved in place; rate in lr",
    OfObjects: "step(parameters) on a list of objects with data and grad, new arrays put in their places; rate in lr",
    OfAModel: "step(model) on a list of layers, with W and dW, b and db",
    Numbered: "update(layer_id, w, dw) on one tensor a call, returned; rate in learningRate",
    InPlaceAndTheVelocity: "update(w, dw) on one tensor a call, moved in place; rate in lr",
    ListOfDicts: "update(params, grads) on a list of dicts, gradients by d and the name, new arrays put",
    DictOfDicts: "update(params, grads) on a dict of dicts, returned",
    ListOfLists: "update(params, grads) on a list of lists, moved in place",
    of_two: "update_parameters(w, b, dw, db, learning_rate) on tensors in arguments of their own, returned",
    of_six: "db3, alpha) on tensors in arguments of their own, returned; rate given as alpha",
    of_lists: "update(weights, biases, nabla_w, nabla_b, eta) on lists in arguments of their own, returned",
    with_config: "sgd_momentum(w, dw, config) on one tensor a call, returned; rate in the state's learning_rate",
    with_velocity: "update(w, dw, v, lr) on one tensor a call, returned; rate given as lr",
    with_bound_arguments: "update_with_momentum(parameters, grads, v, learning_rate) on dicts, gradients by d",
    closure: "step(params, grads, lr) on dicts, moved in place; rate given as lr",
}
WITH_THE_RATE = {OfALayer: "the learning rate is inside the velocity"}  # what these do otherwise than torch does


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_every_style_is_read_and_a_right_rule_passes(style) -> None:
    if style in WITH_THE_RATE:
        report = check(style())
        assert WITH_THE_RATE[style] in str(report)
        assert check(style(mu=0.0), lambda tensors: torch.optim.SGD(tensors, lr=0.1))
    else:
        report = check(style())
        assert report, str(report)
    assert STYLES[style] in str(report)


@pytest.mark.short(12)
@pytest.mark.parametrize("style", [s for s in STYLES if s not in WITH_THE_RATE], ids=lambda style: style.__name__)
def test_in_every_style_a_wrong_rule_is_caught(style) -> None:
    report = check(style(mu=0.5))
    assert [finding.property for finding in report.failures] == ["updates_agree_with_twin"], str(report)


@pytest.mark.parametrize("style", [DictsInPlace, TensorReturned, Holder, with_config], ids=lambda style: style.__name__)
def test_float32_is_judged_too_and_objects_stay_as_they_were(style) -> None:
    subject = style()
    report = check(subject, dtypes=("float64", "float32"))
    assert report, str(report)
    if isinstance(subject, Holder):
        assert all(np.array_equal(p.data, q.data) for p, q in zip(subject.params, weights(), strict=True))
    assert getattr(subject, "velocity", {}) == {}


class Half:
    """Returns what is of float64 for float32 parameters, as np.sqrt of a number makes it."""

    lr = 0.1

    def update(self, w, dw):
        return w - self.lr * np.sqrt(np.float64(1.0)) * dw


def test_a_higher_precision_that_comes_back_is_no_fault() -> None:
    assert check(Half(), lambda tensors: torch.optim.SGD(tensors, lr=0.1), dtypes=("float32",))


class Rebound:
    lr = 0.1

    def step(self, params, grads):
        for key in grads:
            params[key] = params[key] - self.lr * grads[key]


def test_new_arrays_in_the_places_of_the_old_are_told_and_no_fault() -> None:
    report = check(Rebound(), lambda tensors: torch.optim.SGD(tensors, lr=0.1))
    assert report
    assert "new arrays put in their places" in str(report)


class OneCount:
    """Adam as it is published: one count of steps for all tensors."""

    def __init__(self):
        self.lr, self.t, self.m, self.v = 0.01, 0, {}, {}

    def step(self, params, grads):
        self.t += 1
        for key, g in grads.items():
            self.m[key] = 0.9 * self.m.get(key, 0) + 0.1 * g
            self.v[key] = 0.999 * self.v.get(key, 0) + 0.001 * g * g
            mean, square = self.m[key] / (1 - 0.9**self.t), self.v[key] / (1 - 0.999**self.t)
            params[key] -= self.lr * mean / (np.sqrt(square) + 1e-8)


def test_one_count_for_all_tensors_is_told_and_no_fault() -> None:
    report = check(OneCount(), lambda tensors: torch.optim.Adam(tensors, lr=0.01))
    (missing,) = [finding for finding in report.findings if finding.property == "missing_gradients_are_skipped"]
    assert report
    assert missing.verdict is Verdict.INCONCLUSIVE
    assert "counts its steps alone" in missing.message


class ZeroOverZero:
    """Divides by the root of what is zero at first, with no eps."""

    def __init__(self, factor=1.0):
        self.lr, self.sums, self.factor = 0.1, {}, factor

    def step(self, params, grads):
        for key, g in grads.items():
            self.sums[key] = self.sums.get(key, 0) + g * g
            params[key] -= self.factor * self.lr * g / np.sqrt(self.sums[key])


def adagrad_without_eps(tensors):
    return torch.optim.Adagrad(tensors, lr=0.1, eps=0.0)


def masked(optimizer):
    """Return an optimizer that is given gradients of zero in one element, from the first step on."""

    class Masked:
        lr = 0.1

        def __init__(self):
            self.inner = optimizer

        def step(self, params, grads):
            self.inner.lr = self.lr
            self.inner.step(params, {key: g * (np.arange(g.size).reshape(g.shape) > 0) for key, g in grads.items()})

    return Masked()


def test_what_is_nan_on_both_sides_is_equal_and_told() -> None:
    def rule(param, grad, state, lr, t):
        grad = grad * (np.arange(grad.size).reshape(grad.shape) > 0)
        total = state.get("sum", 0) + grad * grad
        return param - lr * grad / np.sqrt(total), {"sum": total}

    report = check(masked(ZeroOverZero()), None, reference=rule)
    assert report, str(report)
    assert "is not finite from step 0 on" in str(report)
    assert check(masked(ZeroOverZero(1.01)), None, reference=rule).verdict is Verdict.FAIL


def test_nan_where_the_reference_is_finite_is_a_fault() -> None:
    report = check(masked(ZeroOverZero()), adagrad_without_eps)
    assert report.verdict is Verdict.FAIL


def lion(param, grad, state, lr, t):
    m = state.get("m", np.zeros_like(param))
    return param - lr * np.sign(0.9 * m + 0.1 * grad), {"m": 0.99 * m + 0.01 * grad}


class Lion:
    def __init__(self, beta=0.9):
        self.lr, self.beta, self.m = 1e-3, beta, {}

    def step(self, params, grads):
        for key, g in grads.items():
            m = self.m.get(key, np.zeros_like(g))
            params[key] -= self.lr * np.sign(self.beta * m + (1 - self.beta) * g)
            self.m[key] = 0.99 * m + 0.01 * g


@pytest.mark.parametrize("reference", [lion, Lion()], ids=["function", "object"])
def test_a_rule_in_numpy_is_a_reference_where_torch_has_none(reference) -> None:
    for dtype in ("float64", "float32"):
        assert check(Lion(), None, dtypes=(dtype,), reference=reference)
        assert check(Lion(0.5), None, dtypes=(dtype,), reference=reference).verdict is Verdict.FAIL


class Silent:
    lr = 0.1

    def step(self, params, grads):
        for key, p in params.items():
            p = p - self.lr * grads[key]  # the mistake


class Change:
    lr = 0.1

    def update(self, w, dw):
        return self.lr * dw


class Unknown:
    def update(self, params, grads, beta):
        pass


class Bare:
    lr = 0.1

    def step(self):
        pass


TOTAL = {"m": 0.0}


def global_momentum(w, dw, lr=0.1):
    TOTAL["m"] = 0.9 * TOTAL["m"] + float(dw.sum())
    return w - lr * TOTAL["m"]


MISTAKES = {
    "moves nothing": (
        Silent(),
        "step(params, grads) on dicts returns nothing that is the parameters, and moves nothing",
    ),
    "a change": (Change(), "returns by how much to move, not the new parameters"),
    "a change of no known rate": (lambda w, dw: 0.1 * dw, "returns by how much to move, not the new parameters"),
    "an unknown argument": (Unknown(), "bind them, as by functools.partial(..., beta=...)"),
    "nothing held": (Bare(), "make it with parameters, such as objects with data and grad"),
    "a global": (global_momentum, "it keeps what it remembers outside itself"),
    "no method": (object(), "object needs a method step(params, grads)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_called_says_in_one_line_what_to_write(mistake) -> None:
    subject, text = MISTAKES[mistake]
    with pytest.raises(AdapterError, match=re.escape(text)) as caught:
        check(subject)
    assert "\n" not in str(caught.value)


def test_without_a_reference_one_is_suggested() -> None:
    with pytest.raises(
        AdapterError, match=re.escape("twin=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9)")
    ):
        check_optimizer(DictsMomentum())
    with pytest.raises(AdapterError, match="and not both"):
        check_optimizer(DictsInPlace(), momentum, reference=lion)
    with pytest.raises(AdapterError, match=re.escape("tensors to move are given as params=")):
        check_optimizer(DictsInPlace(), {"W": np.ones(2)}, {"W": np.ones(2)})
    with pytest.raises(AdapterError, match="the twin returns a tuple; a torch optimizer is needed"):
        check(DictsInPlace(), lambda tensors: (tensors, {}))


class DictsMomentum(DictsInPlace):
    pass


class OddName:
    """Has its rate where nobody looks."""

    def __init__(self):
        self.settings_of_mine = {"speed": 0.1}

    def step(self, params, grads):
        for key, g in grads.items():
            params[key] -= self.settings_of_mine["speed"] * g


def test_a_rate_that_is_not_found_is_left_as_it_is_and_can_be_named() -> None:
    def sgd(tensors):
        return torch.optim.SGD(tensors, lr=0.1)

    report = check(OddName(), sgd)
    assert report
    assert "rate not found, and left as it is" in str(report)
    assert "rate in settings_of_mine.speed" in str(check(OddName(), sgd, lr="settings_of_mine.speed"))


class TwoRates:
    """Has an alpha that is no rate."""

    def __init__(self):
        self.alpha, self.speed, self.step_size, self.mean = 0.99, 1.0, 0.01, {}

    def step(self, params, grads):
        for key, g in grads.items():
            self.mean[key] = self.alpha * self.mean.get(key, 0) + (1 - self.alpha) * g * g
            params[key] -= self.step_size * g / (np.sqrt(self.mean[key]) + 1e-8)


def test_another_rate_is_named_where_the_first_with_a_usual_name_is_none() -> None:
    report = check(TwoRates(), lambda tensors: torch.optim.RMSprop(tensors, lr=0.01), lr="step_size")
    assert report, str(report)
    assert "rate in step_size" in str(report)


class OfASchedule:
    """Asks a schedule for its rate, and has another number by that name which it does not use."""

    def __init__(self):
        self.hyperparameters, self.schedule = {"lr": 0.1}, SimpleNamespace(lr=0.1)

    def step(self, params, grads):
        for key, g in grads.items():
            params[key] -= self.schedule.lr * g


@dataclass(frozen=True)
class Frozen:
    lr: float = 0.1

    def step(self, params, grads):
        return {key: params[key] - self.lr * g for key, g in grads.items()}


class Falling:
    """Lets its own rate fall."""

    def __init__(self):
        self.lr = 0.1

    def step(self, params, grads):
        for key, g in grads.items():
            params[key] -= self.lr * g
        self.lr *= 0.9


class Scalars:
    """Holds numbers, as a program without arrays does."""

    def __init__(self, factor=1.0):
        self.values, self.lr, self.factor = [SimpleNamespace(data=1.0, grad=0.0) for _ in range(2)], 0.1, factor

    def step(self):
        for value in self.values:
            value.data -= self.factor * self.lr * value.grad


def sgd(tensors):
    return torch.optim.SGD(tensors, lr=0.1)


def test_the_rate_is_where_it_makes_a_difference_and_a_change_of_ones_own_is_seen() -> None:
    assert "rate in schedule.lr" in str(check(OfASchedule(), sgd))
    report = check(Frozen(), sgd)
    assert report
    assert "rate not found, and left as it is" in str(report)
    report = check(Falling(), sgd)
    assert report.verdict is Verdict.FAIL
    assert "in step 1 every move is 0.9 times the reference's" in str(report)


def test_rates_that_differ_where_both_are_set_are_told() -> None:
    report = check(DictsInPlace(), lambda tensors: torch.optim.SGD(tensors, lr=0.5, momentum=MU))
    assert report
    assert "DictsInPlace was made with a rate of 0.1, its twin with 0.5: both were set alike" in str(report)


def test_numbers_may_be_held_in_place_of_arrays() -> None:
    assert check(Scalars(), sgd)
    assert check(Scalars(1.5), sgd).verdict is Verdict.FAIL


def in_four_sums(w, g, state, lr, t):
    v = MU * state.get("v", 0) + g
    for part in (g / 2, g / 2, MU * v / 2, MU * v / 2):
        w = w - lr * part
    return w, {"v": v}


def test_a_rule_that_moves_its_parameters_in_many_sums_is_not_accused_of_their_rounding() -> None:
    def nesterov(tensors):
        return torch.optim.SGD(tensors, lr=0.1, momentum=MU, nesterov=True)

    for seed in (2, 5, 6, 8):  # in which one rounding a step was too little
        report = check(in_four_sums, nesterov, dtypes=("float32",), seed=seed)
        assert report, str(report)


class CountsTensors:
    """Adam with one count for all tensors, which goes up with each of them."""

    def __init__(self):
        self.lr, self.t, self.m, self.v = 0.01, 0, {}, {}

    def update(self, w, dw):
        self.t += 1
        key = w.shape
        self.m[key] = 0.9 * self.m.get(key, 0) + 0.1 * dw
        self.v[key] = 0.999 * self.v.get(key, 0) + 0.001 * dw * dw
        return w - self.lr * self.m[key] / (1 - 0.9**self.t) / (np.sqrt(self.v[key] / (1 - 0.999**self.t)) + 1e-8)


def test_a_copy_for_each_tensor_is_told() -> None:
    report = check(CountsTensors(), lambda tensors: torch.optim.Adam(tensors, lr=0.01))
    assert report
    assert "one copy of it for each" in str(report)
