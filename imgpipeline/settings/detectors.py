"""The setting that gives labels to detectors: `yolox-nano: car, truck; yard: person`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChosenDetector:
    """One of the detectors of a deployment."""

    model: str
    """Registered name."""
    labels: tuple[str, ...]
    """The labels that it detects; empty for all of its model."""


def parse_detectors(text: str) -> tuple[ChosenDetector, ...]:
    """Reads detectors, separated by semicolons, each with its labels, separated by commas.

    Args:
        text: Such as `yolox-nano: car, truck; yard`.

    Returns:
        The detectors in their order.

    Raises:
        ValueError: The text has another form, or a model or label stands in it twice.
    """
    chosen = []
    for part in text.split(";"):
        model, colon, names = part.partition(":")
        labels = tuple(name.strip() for name in names.split(",")) if colon else ()
        if not model.strip() or "" in labels:
            raise ValueError(f"got {text!r}; expected `NAME: LABEL, LABEL; NAME: LABEL`")
        chosen.append(ChosenDetector(model.strip(), labels))
    for what, all_names in (
        ("model", [one.model for one in chosen]),
        ("label", [label for one in chosen for label in one.labels]),
    ):
        twice = sorted({name for name in all_names if all_names.count(name) > 1})
        if twice:
            raise ValueError(f"the {what} {twice[0]!r} stands in {text!r} twice; an object would count twice")
    return tuple(chosen)
