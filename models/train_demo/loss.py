"""What the training minimises: objectness, class and box, with a fixed assignment of points to objects."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.train_demo.network import STRIDES

LONGER_SIDE_PX = ((0, 64), (48, 1e9), (96, 1e9))
"""Which objects a stride is responsible for, by their longer side in network px; they overlap on purpose."""
REACH_CELLS = 1.0
"""A point is responsible where the object's centre is at most this far away: the 2 x 2 points around it."""


class Target(NamedTuple):
    """What the points of one picture should say."""

    positive: jax.Array
    """[points] bool: responsible for an object."""
    counted: jax.Array
    """[points] 0 or 1: 0 where the point lies in an object that is not countable, which is neither wrong nor right."""
    box: jax.Array
    """[points, 4]: dx, dy, log width, log height in cells."""
    class_id: jax.Array
    """[points]"""


def assign(boxes: jax.Array, grid: jax.Array) -> Target:
    """Assigns points to the objects of one picture (boxes as in `dataset.render`)."""
    cell, stride = grid[:, :2], grid[:, 2:]
    upper, lower, real, counts = boxes[:, :2], boxes[:, 2:4], boxes[:, 4] >= 0, boxes[:, 5] > 0
    centre, size = (upper + lower) / 2, lower - upper
    away = jnp.abs(centre[None] / stride[:, None] - cell[:, None] - 0.5).max(-1)
    longer = size.max(-1)
    low, high = (
        sum(jnp.where(stride == s, v[i], 0) for s, v in zip(STRIDES, LONGER_SIDE_PX, strict=True)) for i in (0, 1)
    )
    fits = (away < REACH_CELLS) & (longer >= low) & (longer < high) & (real & counts)
    nearest = jnp.where(fits, away, 99).argmin(1)
    middle = ((cell + 0.5) * stride)[:, None]
    uncountable = ((middle > upper) & (middle < lower)).all(-1) & (real & ~counts)
    box = [centre[nearest] / stride - cell, jnp.log(jnp.maximum(size[nearest], 1) / stride)]
    positive = fits.any(1)
    counted = jnp.where(positive | ~uncountable.any(1), 1.0, 0.0)
    return Target(positive, counted, jnp.concatenate(box, axis=1), boxes[nearest, 4])


def loss_parts(out: jax.Array, boxes: jax.Array, grid: jax.Array) -> jax.Array:
    """Sums the loss of one picture.

    Args:
        out: [points, 5 + classes], no sigmoid yet.
        boxes: As in `dataset.render`.
        grid: As from `points`.

    Returns:
        [5]: objectness, class, distance of the raw box, 1 - IoU, number of responsible points.
    """
    target = assign(boxes, grid)
    one_hot = jax.nn.one_hot(target.class_id, out.shape[1] - 5)
    class_loss = _cross_entropy(out[:, 5:], one_hot).sum(1)
    distance = jnp.abs(out[:, :4] - target.box).sum(1)
    iou = _iou(out[:, :4], target.box)
    # The confidence has to foretell the box: IoU 0.3 -> 0, 0.55 -> 0.5, 0.8 -> 1.
    # A plain 0 or 1 gives confident second boxes.
    quality = jnp.clip((jax.lax.stop_gradient(iou) - 0.3) / 0.5, 0, 1) * target.positive
    objectness = (_cross_entropy(out[:, 4], quality) * target.counted).sum()
    positive = [(v * target.positive).sum() for v in (class_loss, distance, 1 - iou, jnp.ones_like(iou))]
    return jnp.stack([objectness, *positive])


def _cross_entropy(logit: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.maximum(logit, 0) - logit * target + jnp.log1p(jnp.exp(-jnp.abs(logit)))


def _iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """IoU of boxes given as dx, dy, log width, log height."""
    (a1, a2), (b1, b2) = _corners(a), _corners(b)
    common = jnp.clip(jnp.minimum(a2, b2) - jnp.maximum(a1, b1), 0).prod(1)
    return common / ((a2 - a1).prod(1) + (b2 - b1).prod(1) - common + 1e-6)


def _corners(box: jax.Array) -> tuple[jax.Array, jax.Array]:
    half = jnp.exp(jnp.clip(box[:, 2:], -4, 4)) / 2
    return box[:, :2] - half, box[:, :2] + half
