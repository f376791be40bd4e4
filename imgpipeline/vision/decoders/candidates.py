"""What all decoders share: the boxes that they return, the choice of the best class, and an error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from imgpipeline.errors import PermanentError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes above the threshold, before suppression."""

    boxes_xyxy: Floats
    """float32 [n, 4]: left, top, right, bottom in pixels of the network's input; may reach outside of it."""
    scores: Floats
    """float32 [n], in (threshold, 1]."""
    class_ids: Ints
    """int64 [n], from 0."""


class Decoder(Protocol):
    """Reads the outputs of one layout. Pure: the same arrays give the same boxes, and no array is changed."""

    def __call__(self, outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float, /) -> Candidates:
        """Returns the boxes that score strictly above a threshold.

        Args:
            outputs: The network's outputs, finite.
            input_size: Width and height of the network's input in pixels.
            threshold: In [0, 1).

        Returns:
            The boxes in the network's order.

        Raises:
            PermanentError: An output has another shape than the layout says.
        """


def select(objectness: Floats, class_scores: Floats, threshold: float) -> tuple[Ints, Floats, Ints]:
    """Chooses the best class of each row. Score = objectness x class score.

    Args:
        objectness: float32 [n].
        class_scores: float32 [n, classes].
        threshold: Scores must be strictly greater.

    Returns:
        Indices, scores and classes of the rows above the threshold.
    """
    # No class score is above 1, so most rows fall by their objectness alone: that saves the larger product.
    likely = np.flatnonzero(objectness > threshold)
    class_scores = class_scores[likely]
    class_ids = class_scores.argmax(axis=1)
    scores = objectness[likely] * np.take_along_axis(class_scores, class_ids[:, None], axis=1)[:, 0]
    above = scores > threshold
    return likely[above], scores[above], class_ids[above]


def corners(centre: Floats, size: Floats) -> Floats:
    """Returns float32 [n, 4] left, top, right, bottom of boxes given by centre and size, each [n, 2]."""
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def wrong_shape(decoder: str, outputs: Sequence[Floats], expected: str) -> PermanentError:
    """Makes the error for outputs that do not have the decoder's layout.

    Args:
        decoder: Its name.
        outputs: What the network returned.
        expected: The shapes of the layout.

    Returns:
        The error, to be raised by the caller.
    """
    got = ", ".join(str(list(output.shape)) for output in outputs)
    return PermanentError(
        f"The model's output is {got}; the decoder {decoder!r} expects {expected}.",
        next_step="set IMGPIPELINE_MODEL_DECODER (or the decoder in the model's entry) to the model's layout; "
        "`imgpipeline models check FILE IMAGE` shows what each layout finds",
    )
