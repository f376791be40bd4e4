"""The models and their thresholds, and detection runs: when they end, and which frames they reject or gate."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.contracts.times import HOURS_PATTERN, day_of
from imgpipeline.settings.variables import SettingsGroup, split_list


@dataclass(frozen=True, slots=True)
class ChosenDetector:
    """A detector in `IMGPIPELINE_DETECTORS`."""

    model: str
    """Registered name."""
    labels: tuple[str, ...]
    """The labels to detect; empty for all labels of the model."""


def parse_detectors(text: str) -> tuple[ChosenDetector, ...]:
    """Parses detectors with their labels: `yolox-nano: car, truck; yard: person`.

    Args:
        text: Detectors separated by semicolons, labels by commas. `yard` without labels has all labels of its model.

    Returns:
        The detectors in the same order.

    Raises:
        ValueError: The text has another form, or names a model or label twice.
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
            raise ValueError(f"{text!r} names the {what} {twice[0]!r} twice, so objects would be counted twice")
    return tuple(chosen)


LIVE = "live"
"""Name of the results of detection runs in comparisons of models; no model can have it."""
REDETECTION_MODEL = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,99})(?:@(?P<precision>bf16|fp16))?(?:@(?P<threshold>0(?:\.\d{1,6})?))?", re.ASCII
)
"""A model, optionally with a precision other than its file's and a threshold other than
`IMGPIPELINE_CONFIDENCE_THRESHOLD`: `NAME@bf16@0.3`."""


class ModelSettings(SettingsGroup):
    """Models."""

    model: str = "demo"
    """Registered model (`imgpipeline models list`), or path of an ONNX file."""
    detectors: str | None = None
    """Several registered models, each for its labels, in place of `IMGPIPELINE_MODEL`: `yolox-nano: car, truck; yard:
    person` (docs/models.md)."""
    model_decoder: DecoderName | None = None
    """Output layout of the model, if `IMGPIPELINE_MODEL` is a path. Default: detected from the file."""
    model_labels: Path | None = None
    """Text file with one label per line, if `IMGPIPELINE_MODEL` is a path. Default: the labels in the file's metadata,
    else COCO's 80."""
    model_dir: Path | None = None
    """Folder of pulled and added models. Default: `imgpipeline/models` in the user's cache folder."""
    model_backend: Literal["auto", "cuda", "opencv", "onnxruntime", "openvino"] = "auto"
    """Inference library; `auto` selects the fastest installed one; `cuda` is ONNX Runtime on a GPU (docs/models.md)."""
    precision: Literal["fp32", "bf16", "int8", "fp16", "auto"] = "fp32"
    """Number format that the model computes in (docs/models.md): `fp32` (a quantized model: `int8`), `bf16` on
    processors with bf16 instructions and OpenVINO, `int8` to accept quantized models only, `auto` for the fastest that
    `imgpipeline models tune` measured on this machine; `fp16` on a GPU."""
    model_threads: int | None = Field(None, ge=1, le=256)
    """Threads per inference. Default: the cores are divided among the workers."""
    detect_workers: int | None = Field(None, ge=1, le=256)
    """Images decoded and detected at a time. Default: one per core."""
    confidence_threshold: float = Field(0.5, ge=0, lt=1)
    """Detections need a confidence strictly above this."""
    weak_confidence: float | None = Field(None, ge=0.1, lt=1)
    """Keep detections above this, but not above `IMGPIPELINE_CONFIDENCE_THRESHOLD`, as weak detections: tracks continue
    with them, and no count includes them (docs/tracking.md); usual: `0.1`. Default: none."""
    nms_threshold: float = Field(0.4, gt=0, le=1)
    """If two boxes overlap (IoU) by more than this, the one with lower confidence is dropped."""
    nms_per_class: bool | None = None
    """Whether only boxes with the same label compete. Default: as registered for the model."""
    reduced_decoding: bool = True
    """Decode a JPEG that is at least twice as large as the model's input at 1/2, 1/4 or 1/8 of its size. `false`
    decodes at full size: slower, and slightly different confidences."""
    integer_boxes: bool = False
    """Cut boxes to whole pixels before suppression, as the classic OpenCV recipe does: for comparison with its results,
    together with `IMGPIPELINE_REDUCED_DECODING=false` (docs/models.md)."""
    redetect_models: Annotated[tuple[str, ...], BeforeValidator(split_list), NoDecode] = ()
    """Models that Dagster can re-process days with, `NAME` or `NAME@THRESHOLD`, separated by commas:
    `yolox-nano,demo@0.3,yolox-nano@bf16`. Default: none."""
    redetect_part_frames: int = Field(500, ge=1, le=100_000)
    """A redetection stores its results each time it has processed this many frames."""

    @field_validator("detectors")
    @classmethod
    def _check_detectors(cls, value: str | None) -> str | None:
        if value is not None:
            parse_detectors(value)
        return value

    @field_validator("redetect_models")
    @classmethod
    def _check_models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not REDETECTION_MODEL.fullmatch(text):
                raise ValueError(
                    f"got {text!r}; expected NAME, NAME@THRESHOLD or NAME@bf16@THRESHOLD with a threshold from 0 to "
                    "below 1"
                )
        return value


class DetectionSettings(SettingsGroup):
    """Detection runs."""

    lanes: int = Field(1, ge=1, le=1000)
    """Number of parallel detection runs; topic partitions are spread over them."""
    linger_s: float = Field(20.0, ge=0)
    """A detection run ends when its lane has been idle for this long."""
    max_run_s: float = Field(900.0, gt=0)
    """A detection run ends after this long; the next one continues."""
    takeover_s: float = Field(180.0, gt=0)
    """A run without progress for this long is replaced by a new one."""
    retry_pause_s: float = Field(10.0, gt=0, le=600)
    """Pause after a failed run. It doubles with each further failure at the same end of the ledger, up to ten
    minutes."""
    max_detect_s: float = Field(60.0, gt=0)
    """After runs have died, frames are processed one by one in a separate process. A frame that takes longer than this
    to decode and detect there counts as one that killed the process."""
    commit_interval_s: float = Field(1.0, gt=0)
    """A segment is closed at this age. Larger values cost fewer requests, smaller ones make frames visible sooner."""
    segment_max_records: int = Field(1000, ge=1, le=100_000)
    """A segment is closed at this many outcomes."""
    prefetch_images: int = Field(32, ge=1, le=1024)
    """Images to read ahead of the detector."""
    max_message_bytes: int = Field(16 * 2**20, ge=1024)
    """Larger Kafka records become `TOO_LARGE`."""
    max_image_bytes: int = Field(64 * 2**20, ge=1024)
    """Larger image objects become `TOO_LARGE` without being read."""
    max_image_pixels: int = Field(100_000_000, ge=1)
    """Images that claim more pixels are not decoded."""
    dead_letter_raw_bytes: int = Field(65_536, ge=0)
    """Largest raw record that a dead letter keeps."""
    first_day: date = date(2000, 1, 1)
    """First accepted day (UTC) and first daily partition; earlier frames are dead letters."""
    max_future_s: float = Field(3600.0, ge=0, le=86_400)
    """Frames whose time is further ahead of the clock are dead letters."""
    allow_gaps: bool = False
    """Continue if Kafka has dropped unread records; the loss is recorded as a gap."""

    def accepts_time(self, time: datetime, now: datetime) -> bool:
        """Returns whether a frame with this time is accepted."""
        return self.first_day <= day_of(time) and time <= now + timedelta(seconds=self.max_future_s)


class GateSettings(SettingsGroup):
    """Gates that exclude frames from detection; none by default. Sources have their own gates (docs/sources.md)."""

    gate_min_brightness: float | None = Field(None, ge=0, le=255)
    """Frames with a mean luma (0 to 255) below this are `gated`: no detection."""
    gate_min_sharpness: float | None = Field(None, ge=0)
    """Frames with a sharpness (variance of the Laplacian) below this are `gated`."""
    gate_min_change: float | None = Field(None, ge=0, le=255)
    """Frames whose luma differs by less than this, on average, from the last kept frame of the same source are
    `gated`."""
    gate_hours: str | None = None
    """Frames outside these hours of the site's time zone are `gated`: `06:00-20:30`; may span midnight."""

    @field_validator("gate_hours")
    @classmethod
    def _check_hours(cls, value: str | None) -> str | None:
        bare = None if value is None else "-".join(time.strip() for time in value.split("-"))
        if bare is not None and not re.fullmatch(HOURS_PATTERN, bare, re.ASCII):
            raise ValueError(f"got {value!r}, expected hours such as 06:00-20:30")
        return value
