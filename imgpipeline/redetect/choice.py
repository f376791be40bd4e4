"""Which model re-processes a day: parses names such as `demo@0.3` and `yolox-nano@bf16`, and loads the model.

The name appears in partitions, keys and commands. Except for the precision, everything that it does not state comes
from the settings of live detection, so `demo` finds what a detection run with `IMGPIPELINE_MODEL=demo` finds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import REDETECTION_MODEL, Settings
from imgpipeline.vision.registry import list_models, registered_model

if TYPE_CHECKING:
    from imgpipeline.vision.detector import Detector

LIVE = "live"
"""Stands in comparisons for what detection runs found; no model can have this name."""
_FORM = "NAME, NAME@THRESHOLD or NAME@bf16, such as `yolox-nano` or `demo@0.3`"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model to look again with."""

    name: str
    """Its registered name; or the file's name without its ending, where `IMGPIPELINE_MODEL` is a path."""
    threshold: float | None = None
    """Confidence threshold, in [0, 1) with at most 6 decimals; None: `IMGPIPELINE_CONFIDENCE_THRESHOLD`."""
    precision: Literal["bf16"] | None = None
    """What it computes in; None: that of its file, so that a name always means the same numbers."""

    def __str__(self) -> str:
        computed = f"{self.name}@{self.precision}" if self.precision else self.name
        if self.threshold is None:
            return computed
        return f"{computed}@{f'{self.threshold:.6f}'.rstrip('0').rstrip('.')}"


def parse_choice(text: str, settings: Settings) -> ModelChoice:
    """Reads the name of a model to look again with.

    Args:
        text: `NAME`, `NAME@THRESHOLD`, `NAME@bf16` or `NAME@bf16@THRESHOLD`.
        settings: Name a model of the user's own, and the folder of models.

    Returns:
        The choice; its file may not be there yet.

    Raises:
        ConfigurationError: It has another form, or there is no such model.
        PermanentError: The registry is damaged.
    """
    match = REDETECTION_MODEL.fullmatch(text)
    known = _known_names(settings)
    if match is None or match["name"] not in known:
        raise ConfigurationError(
            f"There is no model {text!r} for re-processing: expected {_FORM}. Models are {', '.join(known)}.",
            next_step="take one of `imgpipeline models list`; IMGPIPELINE_REDETECT_MODELS lists those with partitions",
        )
    threshold = float(match["threshold"]) if match["threshold"] else None
    return ModelChoice(match["name"], threshold, "bf16" if match["precision"] else None)


def chosen_models(settings: Settings) -> tuple[ModelChoice, ...]:
    """Returns the models that have partitions: those of the setting.

    None by default, because materializing all assets of a day in the UI would otherwise start every model on it.

    Raises:
        ConfigurationError: The setting names a model that does not exist.
        PermanentError: The registry is damaged.
    """
    return tuple(dict.fromkeys(parse_choice(text, settings) for text in settings.redetect_models))


def is_here(choice: ModelChoice, settings: Settings) -> bool:
    """Tells whether a model's file is on this machine."""
    if choice.name == _own_name(settings):
        return True
    return registered_model(choice.name, settings.model_dir).path.is_file()


def load_chosen(choice: ModelChoice, settings: Settings) -> "Detector":
    """Loads a model with the threshold and precision of a choice, all else as the settings say.

    Raises:
        ConfigurationError: Its file was not pulled yet.
        PermanentError: The file is damaged, or the backend cannot read it.
    """
    changes: dict[str, object] = {"precision": choice.precision or "fp32", "detectors": None}
    if choice.threshold is not None:
        changes["confidence_threshold"] = choice.threshold
    if choice.name != _own_name(settings):
        spec = registered_model(choice.name, settings.model_dir)
        if not spec.path.is_file():
            raise ConfigurationError(
                f"The model {choice.name!r} is not here: {spec.path} is missing.",
                next_step=f"imgpipeline models pull {choice.name}",
            )
        changes |= {"model": choice.name, "model_decoder": None, "model_labels": None}
    from imgpipeline.vision.configured import load_configured_detector  # noqa: PLC0415 - loads OpenCV

    return load_configured_detector(settings.model_copy(update=changes))


def _known_names(settings: Settings) -> tuple[str, ...]:
    own = _own_name(settings)
    return (*(spec.name for spec in list_models(settings.model_dir)), *([own] if own else []))


def _own_name(settings: Settings) -> str | None:
    """Returns the name of the user's own model, where the setting is the path of one and it can stand in a key."""
    registered = {spec.name for spec in list_models(settings.model_dir)}
    path = Path(settings.model).expanduser()
    if settings.model in registered or not path.is_file() or path.stem in {*registered, LIVE}:
        return None
    match = REDETECTION_MODEL.fullmatch(path.stem)
    return path.stem if match else None
