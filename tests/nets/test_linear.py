"""The affine map where drawn cases do not look: at values known in closed form."""

from __future__ import annotations

import numpy as np

from nets.layers import Linear


def test_linear_sums_the_bias_gradient_over_every_leading_axis() -> None:
    _, backward = Linear(np.ones((2, 3)), np.zeros(2)).forward(np.ones((4, 5, 3)))
    assert backward(np.ones((4, 5, 2)))[1]["bias"].tolist() == [20.0, 20.0]


def test_linear_may_have_no_outputs_or_inputs() -> None:
    for inputs, outputs in ((3, 0), (0, 3)):
        y, backward = Linear.create(inputs, outputs).forward(np.zeros((2, 5, inputs)))
        dx, grads = backward(y)
        assert (y.shape, dx.shape) == ((2, 5, outputs), (2, 5, inputs))
        assert (grads["weight"].shape, grads["bias"].shape) == ((outputs, inputs), (outputs,))
