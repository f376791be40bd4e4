"""The network's backends for training: one makes the weights, one computes with JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from models.train_demo.network import Layer

Tree = dict[str, dict[str, jax.Array]]


class Initialise:
    """Walks through the network and makes its weights; there are no feature maps.

    Args:
        seed: Chooses the weights.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.weights: Tree = {}
        self.statistics: Tree = {}

    def conv(self, layer: Layer, _x: None, /) -> None:
        """Makes kernels that keep the spread of the values (He), and neutral normalisation."""
        kernels = self._kernels(layer, (2 / (layer.inputs * layer.kernel**2)) ** 0.5)
        zeros, ones = jnp.zeros(layer.outputs), jnp.ones(layer.outputs)
        self.weights[layer.name] = {"kernels": kernels, "gamma": ones, "beta": zeros}
        self.statistics[layer.name] = {"mean": zeros, "variance": ones}

    def head(self, layer: Layer, _x: None, /) -> None:
        """Makes kernels near zero, and a bias that says: hardly ever an object, and then of middle size."""
        bias = np.full(layer.outputs, -4.6, np.float32)  # sigmoid 0.01: about 1 % of the points hold an object
        bias[:4] = 0.5, 0.5, 1, 1
        self.weights[layer.name] = {"kernels": self._kernels(layer, 0.01), "bias": jnp.asarray(bias)}

    def add(self, _a: None, _b: None, /) -> None:
        """Has no weights."""

    def double(self, _x: None, /) -> None:
        """Has no weights."""

    def _kernels(self, layer: Layer, spread: float) -> jax.Array:
        shape = (layer.kernel, layer.kernel, layer.inputs, layer.outputs)
        return jnp.asarray(self._rng.normal(0, spread, shape), jnp.float32)


class Compute:
    """Forward pass with the batch's statistics; maps are [n, height, width, channels].

    Args:
        weights: What is trained.
        statistics: Running means and variances so far; the new ones are in `self.statistics` afterwards.
    """

    def __init__(self, weights: Tree, statistics: Tree) -> None:
        self._weights = weights
        self._before = statistics
        self.statistics: Tree = {}

    def conv(self, layer: Layer, x: jax.Array, /) -> jax.Array:
        """Convolves, normalises with the batch's own mean and variance, applies ReLU."""
        weights, before = self._weights[layer.name], self._before[layer.name]
        x = _convolve(x, weights["kernels"], layer.stride)
        now = {"mean": x.mean((0, 1, 2)), "variance": x.var((0, 1, 2))}
        self.statistics[layer.name] = {key: 0.98 * before[key] + 0.02 * now[key] for key in now}
        scale = weights["gamma"] * jax.lax.rsqrt(now["variance"] + 1e-3)
        return jax.nn.relu(x * scale + (weights["beta"] - now["mean"] * scale))

    def head(self, layer: Layer, x: jax.Array, /) -> jax.Array:
        """Convolves with bias; the loss wants scores before their sigmoid."""
        weights = self._weights[layer.name]
        return _convolve(x, weights["kernels"], layer.stride) + weights["bias"]

    def add(self, a: jax.Array, b: jax.Array, /) -> jax.Array:
        """Adds."""
        return a + b

    def double(self, x: jax.Array, /) -> jax.Array:
        """Repeats rows and columns."""
        return x.repeat(2, 1).repeat(2, 2)


def _convolve(x: jax.Array, kernels: jax.Array, stride: int) -> jax.Array:
    pad = kernels.shape[0] // 2  # on all sides, as ONNX pads; XLA's "SAME" pads only one side at stride 2
    return jax.lax.conv_general_dilated(
        x, kernels, (stride, stride), ((pad, pad),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
