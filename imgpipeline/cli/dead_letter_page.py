"""The output of `imgpipeline dead-letters show`: everything about one dead letter, as text."""

from pathlib import Path

from imgpipeline.cli.output import note, shown, write_text
from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.letter_details import LetterDetails, as_text, readable

_SHOWN_BYTES = 4096


def write_value(page: LetterDetails, path: Path) -> None:
    """Writes the value of the record to a new file.

    Raises:
        ConfigurationError: There is no value, or the file cannot be made.
    """
    if page.original is None:
        raise ConfigurationError(f"The value of {page.buried.reference} cannot be written: {page.missing}.")
    try:
        with path.open("xb") as file:
            file.write(page.original.value)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}.", next_step="name a new file in a folder that is there"
        ) from error
    note(f"{counted(len(page.original.value), 'byte')} written to {path}.")


def show_page(page: LetterDetails) -> None:
    """Writes all of it to stdout."""
    letter, segment = page.letter, page.segment
    became = f" ({page.buried.became})" if page.buried.became else ""
    lines = {
        "record": page.buried.reference.full_text,
        "code": letter.code.value,
        "what was wrong": letter.message,
        "state": page.buried.state.value + became,
        "time": letter.timestamp,
        "day": letter.day,
        "source": letter.source,
        "image": letter.image_path,
        "replay of": letter.replay_of,
        "processed at": segment.created_at,
        "segment": segment_key(segment.chain, segment.start),
        "run": segment.provenance.run_id,
        "model": f"{segment.provenance.model_name} {segment.provenance.model_sha256[:16]}",
        "next": page.next_step,
    }
    if page.original:
        lines["key"] = page.original.key if page.original.key is None else _one_line(page.original.key)
        lines |= {f"header {name}": _one_line(value) for name, value in page.original.headers}
    lines["value"] = counted(letter.raw_size_bytes, "byte") + (f": {page.missing}" if page.missing else "")
    width = max(map(len, lines))
    text = "".join(f"{shown(name):{width}}  {shown(value)}\n" for name, value in lines.items())
    write_text(text + (_dump(page.original.value) if page.original else ""))


def _one_line(raw: bytes) -> str:
    text = as_text(raw[:200])
    return repr(text) if text is not None else raw[:200].hex(" ")


def _dump(raw: bytes) -> str:
    if not raw:
        return ""
    lines = [shown(line) for line in readable(raw, _SHOWN_BYTES)]
    if len(raw) > _SHOWN_BYTES:
        lines.append(f"... and {counted(len(raw) - _SHOWN_BYTES, 'more byte')}; --raw FILE writes all")
    return "\n".join(lines) + "\n"
