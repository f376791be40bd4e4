"""Chooses the model that re-processes a day: parses names such as `demo@0.3` or `yolox-nano@bf16`, and loads models.

The name appears in partitions, keys and commands. Everything that it does not state, except for the precision, comes
from the settings of live detection, so `demo` gives the same detections as a run with `IMGPIPELINE_MODEL=demo`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import LIVE, REDETECTION_MODEL, Settings
from imgpipeline.vision.precision import Precision
from imgpipeline.vision.registry import list_models, registered_model

if TYPE_CHECKING:
    from imgpipeline.vision.detector import Detector

_FORM = "NAME, NAME@THRESHOLD or NAME@bf16, such as `yolox-nano` or `demo@0.3`"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model for re-processing."""

    name: str
    """Its registered name, or the file name without its extension if `IMGPIPELINE_MODEL` is a path."""
    threshold: float | None = None
    """Confidence threshold, in [0, 1) with at most 6 decimals; None: `IMGPIPELINE_CONFIDENCE_THRESHOLD`."""
    precision: Precision | None = None
    """What it computes in; None: that of its file, so a name always gives the same numbers."""

    def __str__(self) -> str:
        computed = f"{self.name}@{self.precision}" if self.precision else self.name
        if self.threshold is None:
            return computed
        return f"{computed}@{f'{self.threshold:.6f}'.rstrip('0').rstrip('.')}"


def parse_choice(text: str, settings: Settings) -> ModelChoice:
    """Parses the name of a model for re-processing; its file may not exist yet.

    Args:
        text: `NAME`, `NAME@THRESHOLD`, `NAME@bf16` or `NAME@bf16@THRESHOLD`; or `fp16`.
        settings: The user's own model and the folder of models.

    Raises:
        ConfigurationError: The form is invalid, or there is no such model.
        PermanentError: The registry is damaged.
    """
    match = REDETECTION_MODEL.fullmatch(text)
    known = _known_names(settings)
    if match is None or match["name"] not in known:
        raise ConfigurationError(
            f"There is no model {text!r} for re-processing: expected {_FORM}. Models are {', '.join(known)}.",
            next_step="use one of `imgpipeline models list`; IMGPIPELINE_REDETECT_MODELS lists those with partitions",
        )
    threshold = float(match["threshold"]) if match["threshold"] else None
    precision = cast("Precision | None", match["precision"])
    return ModelChoice(match["name"], threshold, precision)


def chosen_models(settings: Settings) -> tuple[ModelChoice, ...]:
    """Returns the models that have partitions: those of the setting `redetect_models`.

    It is empty by default; otherwise, materializing all assets of a day in the UI would run every model on it.

    Raises:
        ConfigurationError: The setting names a model that does not exist.
        PermanentError: The registry is damaged.
    """
    return tuple(dict.fromkeys(parse_choice(text, settings) for text in settings.redetect_models))


def is_here(choice: ModelChoice, settings: Settings) -> bool:
    """Returns whether a model's file exists on this machine."""
    if choice.name == _own_name(settings):
        return True
    return registered_model(choice.name, settings.model_dir).path.is_file()


def load_chosen(choice: ModelChoice, settings: Settings) -> "Detector":
    """Loads a model with the threshold and precision of a choice, and otherwise as the settings say.

    Raises:
        ConfigurationError: Its file has not been pulled yet.
        PermanentError: The file is damaged, or the backend cannot read it.
    """
    changes: dict[str, object] = {"precision": choice.precision or "fp32", "detectors": None}
    if choice.threshold is not None:
        changes["confidence_threshold"] = choice.threshold
    if choice.name != _own_name(settings):
        spec = registered_model(choice.name, settings.model_dir)
        if not spec.path.is_file():
            raise ConfigurationError(
                f"The model {choice.name!r} is not on this machine: {spec.path} is missing.",
                next_step=f"imgpipeline models pull {choice.name}",
            )
        changes |= {"model": choice.name, "model_decoder": None, "model_labels": None}
    from imgpipeline.vision.configured import load_configured_detector  # noqa: PLC0415 - loads OpenCV

    return load_configured_detector(settings.model_copy(update=changes))


def _known_names(settings: Settings) -> tuple[str, ...]:
    own = _own_name(settings)
    return (*(spec.name for spec in list_models(settings.model_dir)), *([own] if own else []))


def _own_name(settings: Settings) -> str | None:
    """Returns the name of the user's own model, if the setting is its path and the name is valid in keys."""
    registered = {spec.name for spec in list_models(settings.model_dir)}
    path = Path(settings.model).expanduser()
    if settings.model in registered or not path.is_file() or path.stem in {*registered, LIVE}:
        return None
    match = REDETECTION_MODEL.fullmatch(path.stem)
    return path.stem if match else None
