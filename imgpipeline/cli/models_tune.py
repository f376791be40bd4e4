"""`imgpipeline models tune`: which backend and precision are fastest on this machine."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.vision.tuning import TunedRow


def tune(
    model: Annotated[str | None, typer.Option(help="Name or path. Default: IMGPIPELINE_MODEL.")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="How long each row is measured.")] = 3.0,
    as_json: JsonOption = False,
) -> None:
    """Measure a model in every backend, precision and arrangement of threads, and keep the result for this machine.

    IMGPIPELINE_PRECISION=auto then uses the fastest row with as many workers as the settings have. Run it while the
    machine is idle.
    """
    from imgpipeline.cli.models import refuse_unknown_model  # noqa: PLC0415 - that module imports this one
    from imgpipeline.vision.backends.base import usable_cores  # noqa: PLC0415 - keeps `--help` fast
    from imgpipeline.vision.configured import detect_workers  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.vision.detector import read_verified  # noqa: PLC0415 - as above
    from imgpipeline.vision.registry import find_model, model_folder  # noqa: PLC0415 - as above
    from imgpipeline.vision.tuning import one_at_a_time, tune_model, write_tuning  # noqa: PLC0415 - as above

    settings = load_settings()
    if model is not None:
        refuse_unknown_model(model, settings.model_dir, or_file=True)
    chosen = model or settings.model
    own = chosen == settings.model
    spec = find_model(
        chosen, settings.model_decoder if own else None, settings.model_labels if own else None,
        model_dir=settings.model_dir,
    )  # fmt: skip
    folder, cores, workers = model_folder(settings.model_dir), usable_cores(), detect_workers(settings)
    arrangements = tuple(dict.fromkeys([(workers, max(1, cores // workers)), (1, cores)]))
    with one_at_a_time(folder):
        content = read_verified(spec)[0]
        tuning = tune_model(spec, content, arrangements=arrangements, seconds=seconds, now=utc_now(), told=_note_row)
        path = write_tuning(folder, tuning)
    best = tuning.best(workers)
    if as_json:
        show_json({**asdict(tuning), "path": str(path), "best": asdict(best) if best else None})
        return
    rows = [list(asdict(row).values()) for row in tuning.rows]
    show_table([name.replace("_", " ") for name in asdict(tuning.rows[0])], rows, title=spec.name)
    if best:
        note(f"IMGPIPELINE_PRECISION=auto uses {best.backend} in {best.precision} with {counted(workers, 'worker')}.")


def _note_row(row: "TunedRow") -> None:
    arrangement = f"{counted(row.workers, 'worker')} x {counted(row.threads, 'thread')}"
    note(f"{row.backend} in {row.precision}, {arrangement}: {row.images_per_s:.1f} images/s")
