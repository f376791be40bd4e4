"""`imgpipeline rules`: check, store and draw the rules for events."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import note, show_table
from imgpipeline.contracts.keys import rules_key
from imgpipeline.contracts.text import counted
from imgpipeline.errors import UsageError
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.events.configuration import Rules

app = typer.Typer(help="Check, store and draw the rules for events.")

FileArgument = Annotated[
    Path | None, typer.Argument(help="The rules. Default: IMGPIPELINE_RULES_FILE.", metavar="[FILE]")
]


@app.command("check")
def check(file: FileArgument = None) -> None:
    """Check rules, and list them with the zones and lines that they use.

    Exits with status 1 if a rule is invalid; the message names line and field.
    """
    rules = _read(file, load_settings())
    show_table(
        ("rule", "kind", "sources", "zone or line", "notifies"),
        [
            (
                rule.name,
                rule.kind,
                ", ".join(rules.sources_of(rule)) or "all",
                ", ".join(rule.places) or None,
                ", ".join(rule.notify) or "all targets",
            )
            for rule in rules.rule
        ],
    )
    counts = (counted(len(rules.zone), "zone"), counted(len(rules.line), "line"), counted(len(rules.rule), "rule"))
    note(f"The rules are valid: {', '.join(counts)}.")


@app.command("put")
def put(file: Annotated[Path, typer.Argument(help="The rules.", metavar="FILE")]) -> None:
    """Check rules and store them in the object store, for IMGPIPELINE_RULES_FILE=store.

    Builds then use them for the current day. Past days keep the rules that they were built with until they are built
    again.
    """
    from imgpipeline.events.configuration import STORED, load_rules  # noqa: PLC0415 - loads pydantic models
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    rules, settings = load_rules(file), load_settings()
    store = open_store(settings)
    store.put(rules_key(), file.read_bytes())
    note(f"Stored {counted(len(rules.rule), 'rule')} as {store.url}/{rules_key()}.")
    if settings.rules_file != STORED:
        note(f"They are not used yet: set IMGPIPELINE_RULES_FILE={STORED}.")


@app.command("draw")
def draw(
    frame: Annotated[str, typer.Argument(help="An image: a file, s3://bucket/key, or a key of the store.")],
    rules_file: Annotated[
        Path | None, typer.Option("--rules", help="The rules. Default: IMGPIPELINE_RULES_FILE.")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Draw the zones and lines of this source.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The JPEG file to write.")] = Path("rules.jpg"),
) -> None:
    """Draw the zones and lines of a source on an image.

    The arrow of a line shows its forward direction.
    """
    from imgpipeline.events.draw import draw_places  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.objectstore import ImageReader, open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore.files import open_output, write  # noqa: PLC0415 - as above
    from imgpipeline.vision.annotate import encode_jpeg  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.vision.decode import ImageLimits, decode_image  # noqa: PLC0415 - loads OpenCV

    settings = load_settings()
    rules = _read(rules_file, settings)
    wanted = _source_of(rules, source)
    places = [place for place in rules.places if place.source == wanted]
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    path = Path(frame)
    data = path.read_bytes() if path.is_file() else ImageReader(open_store(settings), settings).read(frame).data
    drawn = draw_places(decode_image(data, limits).pixels, places)
    with open_output(str(out), option="--out") as stream:
        write(stream, encode_jpeg(drawn))
    note(f"Drew {', '.join(place.name for place in places)} on {out}.")


def _read(file: Path | None, settings: Settings) -> "Rules":
    from imgpipeline.events.configuration import load_rules, read_rules  # noqa: PLC0415 - loads pydantic models
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    if file is not None:
        return load_rules(file)
    if settings.rules_file is None:
        raise UsageError("No rules are given.", next_step="name a file, or set IMGPIPELINE_RULES_FILE")
    return read_rules(settings, open_store(settings))


def _source_of(rules: "Rules", source: str | None) -> str:
    sources = sorted({place.source for place in rules.places})
    if source is None and len(sources) == 1:
        return sources[0]
    if source not in sources:
        names = ", ".join(sources) or "none"
        raise UsageError(
            "--source is missing." if source is None else f"--source is {source!r}, which has no zones or lines.",
            next_step=f"name one of: {names}",
        )
    return source
