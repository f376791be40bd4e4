"""`imgpipeline detect`: show what a model finds in images, without Kafka."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, progress_bar, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.detect.files import DetectedFile, detect_files, find_images
from imgpipeline.settings import load_settings

_MOST_LISTED_IMAGES = 3


def detect(
    locations: Annotated[
        list[str], typer.Argument(metavar="LOCATION…", help="Images, folders, globs or s3://bucket/prefix.")
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many images.")] = None,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a copy of each image with its boxes to DIR/detected_NAME.jpg."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Detect objects in images, without Kafka. Nothing is stored.

    Shows how often each label was found, and each detection if there are at most three images; --json lists the
    detections of all images. Model and thresholds come from the settings. Exits with status 1 if an image cannot be
    read.
    """
    settings = load_settings()
    files = find_images(locations, settings, limit=limit)
    found: list[DetectedFile] = []
    with progress_bar("Detecting", unit="images") as progress:
        for one in detect_files(settings, files, draw_into=draw):
            found.append(one)
            progress(len(found), len(files))
    if as_json:
        show_json([_as_json(one) for one in found])
    else:
        if len(found) <= _MOST_LISTED_IMAGES:
            _show_detections(found)
        _show_labels(found)
    failed = [one for one in found if one.problem]
    for one in failed:
        note(f"{one.where}: {one.problem}")
    done = len(found) - len(failed)
    note(f"{counted(done, 'image')} processed, {len(failed):,} could not be read. Nothing was stored.")
    if draw and done:
        note(f"{counted(done, 'copy', 'copies')} with boxes in {draw}")
    if failed:
        raise typer.Exit(1)


def _show_detections(found: "list[DetectedFile]") -> None:
    rows = [
        (one.where.rpartition("/")[2], d.label, f"{d.confidence:.2f}", *(round(v, 1) for v in d.box_xywh or ()))
        for one in found
        for d in one.detections
    ]
    show_table(("image", "label", "confidence", "left", "top", "width", "height"), rows)


def _show_labels(found: "list[DetectedFile]") -> None:
    boxes = Counter(detection.label for one in found for detection in one.detections)
    images = Counter(label for one in found for label in {detection.label for detection in one.detections})
    ordered = sorted(boxes.items(), key=lambda item: (-item[1], item[0]))
    show_table(("label", "detections", "images"), [(label, count, images[label]) for label, count in ordered])


def _as_json(one: "DetectedFile") -> dict[str, Any]:
    return {
        "image": one.where,
        "image_width": one.width,
        "image_height": one.height,
        "models": list(one.models),
        "detections": [detection.to_json() for detection in one.detections],
        "drawn": str(one.drawn) if one.drawn else None,
        "error": str(one.problem) if one.problem else None,
    }
