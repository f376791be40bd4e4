"""Trains the demo model: `python -m models.train_demo.train`, and once more with `--go-on` on cluttered streets.

Writes `models/training/weights.npz`. JAX is needed for this script only; see `models/README.md` for the commands.
"""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from imgpipeline.sources.simulator.truth import LABELS
from models.train_demo import dataset
from models.train_demo.jax_backend import Compute, Initialise, Tree
from models.train_demo.loss import loss_parts
from models.train_demo.network import network, points

BATCH = 8
WARM_UP_STEPS = 100
WEIGHTS = dataset.FOLDER / "weights.npz"


def loss(
    weights: Tree, statistics: Tree, images: jax.Array, boxes: jax.Array
) -> tuple[jax.Array, tuple[Tree, jax.Array]]:
    """Computes a batch's loss, the new running statistics and the parts of the loss."""
    compute = Compute(weights, statistics)
    maps = network(compute, images.astype(jnp.float32) / 128, len(LABELS))
    out = jnp.concatenate([m.reshape(len(images), -1, m.shape[-1]) for m in maps], axis=1)
    grid = jnp.asarray(points(dataset.WIDTH, dataset.HEIGHT))
    *parts, count = jax.vmap(partial(loss_parts, grid=grid))(out, boxes).sum(0)
    objectness, class_loss, distance, overlap = parts = jnp.stack(parts) / jnp.maximum(count, 1)
    return objectness + class_loss + distance + 5 * overlap, (compute.statistics, parts)


@partial(jax.jit, static_argnames="steps")
def step(
    state: dict[str, Tree], images: jax.Array, boxes: jax.Array, i: float, rate: float, steps: int
) -> tuple[dict[str, Tree], jax.Array]:
    """One step of Adam; the rate rises over the first steps and then falls along a cosine."""
    gradient, (statistics, parts) = jax.grad(loss, has_aux=True)(state["weights"], state["statistics"], images, boxes)
    rate = rate * jnp.minimum((i + 1) / WARM_UP_STEPS, 0.5 * (1 + jnp.cos(jnp.pi * i / steps)))
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["first"], gradient)
    second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, state["second"], gradient)
    a, b = 1 - 0.9 ** (i + 1), 1 - 0.99 ** (i + 1)
    weights = jax.tree.map(
        lambda p, m, v: p - rate * (m / a) / (jnp.sqrt(v / b) + 1e-7), state["weights"], first, second
    )
    return {"weights": weights, "statistics": statistics, "first": first, "second": second}, parts


def batches(
    pictures: NDArray[np.uint8], boxes: NDArray[np.float32], rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Yields batches for ever, each picture once a round, half of them mirrored."""
    order: list[int] = []
    while True:
        if len(order) < BATCH:
            order = [int(i) for i in rng.permutation(len(pictures))]
        pick = [order.pop() for _ in range(BATCH)]
        x, y = pictures[pick], boxes[pick]
        for k in np.flatnonzero(rng.random(BATCH) < 0.5):
            x[k] = x[k, :, ::-1]
            y[k, :, [0, 2]] = dataset.WIDTH - y[k][:, [2, 0]].T
        yield x, y


def begin(seed: int, path: Path | None) -> dict[str, Tree]:
    """Makes weights, or takes them from a file that `save` wrote, and an optimiser that has seen nothing."""
    initial = Initialise(seed)
    network(initial, None, len(LABELS))
    state = {"weights": initial.weights, "statistics": initial.statistics}
    if path is not None:
        saved = np.load(path)
        for tree in state.values():
            for layer, parts in tree.items():
                tree[layer] = {part: jnp.asarray(saved[f"{layer}.{part}"]) for part in parts}
    zeros = jax.tree.map(jnp.zeros_like, state["weights"])
    return state | {"first": zeros, "second": zeros}


def save(state: dict[str, Tree], path: Path) -> None:
    """Writes weights and running statistics as `layer.part` arrays."""
    trees = (state["weights"], state["statistics"])
    np.savez(
        path, **{f"{layer}.{part}": v for tree in trees for layer, parts in tree.items() for part, v in parts.items()}
    )


def main() -> None:
    """Renders the pictures where needed, trains, writes the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--frames", type=int, default=16_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--clutter", type=int, default=1)
    parser.add_argument("--go-on", action="store_true", help="start with the weights that are there")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    start = time.monotonic()
    pictures, boxes = dataset.load(args.frames, args.clutter)
    print(f"{len(pictures)} frames, {(boxes[..., 4] >= 0).sum()} objects, {time.monotonic() - start:.0f} s", flush=True)
    state = begin(args.seed, args.weights if args.go_on else None)
    print("parameters:", sum(v.size for v in jax.tree.leaves(state["weights"])))
    source, sums = batches(pictures, boxes, np.random.default_rng(args.seed + 1)), np.zeros(4)
    for i in range(args.steps):
        state, parts = step(state, *next(source), float(i), args.rate, args.steps)
        sums += np.asarray(parts)
        if i % 100 == 99:
            print(
                i + 1,
                "objectness, class, distance, 1-IoU:",
                (sums / 100).round(4),
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )
            sums[:] = 0
        if i % 500 == 499 or i == args.steps - 1:
            save(state, args.weights)


if __name__ == "__main__":
    main()
