# mypy: ignore-errors
"""Activations and losses as people write them whose gradient is asked for in other ways than by dy; right and wrong.

Of a right one the factor of the derivative is 1.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class WithGradient:
    """``gradient(x)`` is the derivative of each element."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, x):
        return sigmoid(x)

    def gradient(self, x):
        s = self(x)
        return self.factor * s * (1 - s)


class WithBackwardOfX(WithGradient):
    """The same under the names of a layer."""

    def forward(self, x):
        return sigmoid(x)

    def backward(self, x):
        return super().gradient(x)

    gradient = None


class WithPrime(WithGradient):
    """Two methods whose names differ by what says that one is the derivative."""

    __call__ = gradient = None

    def activation(self, z):
        return np.tanh(z)

    def activation_prime(self, z):
        return self.factor * (1 - np.tanh(z) ** 2)


class OfItsOutput(WithPrime):
    """The derivative in terms of the output, as its argument says."""

    def activation_prime(self, a):
        return self.factor * (1 - a**2)


class OfWholeNumbers(WithGradient):
    """A derivative that is 0 or 1, in integers; a wrong one where x is negative."""

    def __call__(self, x):
        return np.maximum(x, 0)

    def gradient(self, x):
        return (x > 0) * 1 if self.factor == 1 else (x < 0) * 1


class OfOneNumber(WithGradient):
    """The same derivative everywhere."""

    def __call__(self, x):
        return 3 * x

    def gradient(self, x):
        return 3 * self.factor


class WithAFlag(WithGradient):
    """One method that computes both."""

    gradient = None

    def __call__(self, x, derivative=False):
        s = sigmoid(x)
        return self.factor * s * (1 - s) if derivative else s


class ForgetsDy:
    """Not a derivative of x: it returns what forward has left, whatever comes from above."""

    def forward(self, x):
        self.y = sigmoid(x)
        return self.y

    def backward(self, x):
        return self.y * (1 - self.y)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * (np.exp(x) - 1))


def elu_prime(x, alpha):
    return np.where(x > 0, 1, alpha * np.exp(x))


def elu_without_alpha(x, alpha):
    return np.where(x > 0, 1, np.exp(x))


def flagged(x, prime=False, sign=1.0):
    s = sigmoid(x)
    return sign * s * (1 - s) if prime else s


def of_the_output_by_another_name(x, deriv=False):
    return x * (1 - x) if deriv else sigmoid(x)


def ridge(W, strength=1e-3):
    return 0.5 * strength * np.sum(W * W)


def ridge_grad(W, strength=1e-3):
    return strength * W


def nll(theta):
    return np.log(np.exp(theta[:2]).sum()) + theta[2] ** 2


def nll_grad(theta):
    e = np.exp(theta[:2])
    return np.concatenate([e / e.sum(), 2 * theta[2:3], 0 * theta[3:]])


def gated(z, a=None, derivative=False):
    """Return z sigmoid(z), or its derivative in terms of z and that."""
    return a + sigmoid(z) * (1 - a) if derivative else z * sigmoid(z)


def gated_prime(a, z):
    return gated(z, a, True)


def wrong_gated_prime(a, z):
    return -gated(z, a, True)


def softmax(x, deriv=False):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    s = e / e.sum(axis=1, keepdims=True)
    return np.array([np.diag(row) - np.outer(row, row) for row in s]) if deriv else s


def softmax_grad(s):
    s = s.reshape(-1, 1)
    return np.diagflat(s) - s @ s.T


def running_squares(x):
    return np.cumsum(x**2)


def running_squares_grad(x):
    return np.tri(x.size) * 2 * x


class KeptJacobian:
    """``backward()`` returns the Jacobian of each sample."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, x):
        self.x = x
        return softmax(x)

    def backward(self):
        return self.factor * softmax(self.x, True)


def traced(function):
    """Decorate as people do who do not know functools.wraps."""

    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Hidden:
    """Calls a function whose arguments nobody can look up."""

    def __init__(self, function):
        self.functions = [function]

    def __call__(self, *args, **kwargs):
        return self.functions[0](*args, **kwargs)


def cross_entropy(y_true, y_pred):
    return -np.mean(y_true * np.log(y_pred) + (1 - y_true) * np.log(1 - y_pred))


def cross_entropy_prime(y_true, y_pred):
    return (y_pred - y_true) / (y_pred * (1 - y_pred)) / y_true.size


def of_the_other_sign(y_true, y_pred):
    return -cross_entropy_prime(y_true, y_pred)


def prediction_first(y_pred, y_true):
    return cross_entropy_prime(y_true, y_pred)


class OtherWords:
    """A loss by names of its own."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forloss(self, p, t):
        self.rest = p - t
        return 0.5 * np.sum(self.rest**2)

    def backloss(self):
        return self.factor * self.rest


class ComputesBoth:
    """A loss whose methods begin with the same word."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def compute_loss(self, labels, predictions):
        return 0.5 * np.sum((labels - predictions) ** 2)

    def compute_derivative(self, labels, predictions):
        return self.factor * (predictions - labels)


class KeepsOnRequest:
    """Keeps what backward needs if it is told to, by a flag that is false or has no default."""

    def __init__(self, factor=1.0):
        self.factor, self.cache, self.grads = factor, {}, {}
        self.params = {"W": np.random.default_rng(3).standard_normal((2, 3))}

    def forward_propagate(self, X, save_cache=False):
        if save_cache:
            self.cache["X"] = X
        return self.params["W"] @ X

    def back_propagate(self, dZ):
        self.grads["dW"] = self.factor * dZ @ self.cache["X"].T
        return self.params["W"].T @ dZ


class KeptEarlier(KeepsOnRequest):
    """It was used before, and holds a number that it does not learn beside its parameters."""

    def __init__(self, factor=1.0):
        super().__init__(factor)
        self.params["alpha"] = 0.5
        self.forward_propagate(np.ones((3, 4)), save_cache=True)

    def forward_propagate(self, X, save_cache=False):
        return self.params["alpha"] * super().forward_propagate(X, save_cache)

    def back_propagate(self, dZ):
        return super().back_propagate(self.params["alpha"] * dZ)


class MustBeTold(KeepsOnRequest):
    def forward_step(self, X, keep):
        return super().forward_propagate(X, keep)

    def backward_step(self, dZ):
        return super().back_propagate(dZ)

    forward_propagate = back_propagate = None


class Predicts(KeepsOnRequest):
    def predict(self, X):
        return super().forward_propagate(X, True)

    def backprop(self, dZ):
        return super().back_propagate(dZ)

    forward_propagate = back_propagate = None


def model_forward(X, params):
    Z = params["W1"] @ X + params["b1"]
    return np.tanh(Z), [(X, Z)]


def model_backward(dA, caches, params, factor=1.0):
    X, Z = caches[0]
    dZ = factor * dA * (1 - np.tanh(Z) ** 2)
    return {"dW1": dZ @ X.T, "db1": dZ.sum(axis=1, keepdims=True)}


class Masked:
    """A mask among its arguments, and a flag that has no default."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, src, src_mask, training):
        self.mask = src_mask
        return src * src_mask

    def backward(self, error):
        return self.factor * error * self.mask


class MaskedAttention:
    """Two outputs, one gradient for each input but the mask."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, q, k, mask):
        self.q, self.k, self.mask = q, k, mask
        scores = q @ k.T
        return scores * mask, np.abs(scores)

    def backward(self, error):
        error = error * self.mask
        return self.factor * error @ self.k, error.T @ self.q
