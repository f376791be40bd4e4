"""`imgpipeline upgrade` and `support-bundle`: may this release be started here, and what an issue report needs."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote
from zipfile import ZIP_DEFLATED, ZipFile

import typer

from imgpipeline import __version__
from imgpipeline.cli.options import open_site
from imgpipeline.cli.output import note, record_of, show_records
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.versions import compare_versions
from imgpipeline.objectstore.files import open_output
from imgpipeline.settings import Settings
from imgpipeline.settings.loading import read_variable
from imgpipeline.settings.variables import variables

_REPORTS = ("doctor --json", "health --json", "status --json", "settings --json", "upgrade --check")
_SECRET_NAME = r"passw|secret|token|credential|access_key"  # noqa: S105 - a pattern
_SECRET_ENTRY = re.compile(rf"(?im)^( *)(.*?(?:{_SECRET_NAME}).*?:).*(?:\n\1 +.*)*")
"""A line of YAML whose key names a secret, with the deeper lines after it."""


def upgrade(
    check: Annotated[bool, typer.Option("--check", help="Change nothing.")],  # noqa: ARG001 - there is no other mode
) -> None:
    """Compare the versions in the store with those of this release, before an upgrade or a downgrade.

    Run it with the release that is to be started, before its services. Exits with status 1 if it must not be started.
    """
    settings, store = open_site()
    parts = compare_versions(store, settings, now=utc_now())
    may_start = all(part.may_start for part in parts)
    show_records([record_of(part) for part in parts], ("part", "stored", "program", "verdict"))
    note(f"imgpipeline {__version__} {'can' if may_start else 'must not'} be started on {store.url}.")
    if not may_start:
        raise typer.Exit(1)


def support_bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE.ZIP", help="The file to write.")] = Path("support.zip"),
) -> None:
    """Write one file for an issue report: versions, settings, checks, and dagster.yaml, with secrets masked.

    What cannot be read is named in it. It contains names of hosts, topics and sources: read it before you send it.
    """
    packages = sorted(f"{each.name} {each.version}" for each in distributions())
    texts = {words: _said_by(words) for words in _REPORTS}
    texts["versions"] = "\n".join((f"imgpipeline {__version__}", f"{sys.platform}, Python {sys.version}", *packages))
    dagster = Path(os.environ.get("DAGSTER_HOME", "."), "dagster.yaml")
    entries = dagster.read_text(errors="replace") if os.access(dagster, os.R_OK) else "cannot be read"
    texts["dagster.yaml"] = _SECRET_ENTRY.sub(r"\1\2 ***", entries)
    secrets = _secrets()
    with open_output(str(file), option="FILE.ZIP") as stream, ZipFile(stream, "w", ZIP_DEFLATED) as bundle:
        for name, text in texts.items():
            masked = re.sub(r"://\S+@", "://***@", text)
            for secret in secrets:
                masked = masked.replace(secret, "***")
            bundle.writestr(f"{name}.txt", masked)
    note(f"Wrote {file}. Read it before you send it.")


def _said_by(words: str) -> str:
    command = [sys.executable, "-m", "imgpipeline.cli", *words.split()]
    done = subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, text=True, errors="replace", check=False
    )
    return f"{done.stdout}{done.stderr}exit status {done.returncode}\n"


def _secrets() -> list[str]:
    """Returns what must not appear: secret settings and variables, their words and passwords, as text and in JSON."""
    fields = [(name, field) for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    found = {read_variable(each) or "" for name, field in fields for each in variables(name, field)}
    found |= {value for name, value in os.environ.items() if re.search(_SECRET_NAME, name, re.IGNORECASE)}
    found |= {word for text in found for word in text.split()}
    found |= {unquote(password) for text in found for password in re.findall(r"://[^\s:]*:(\S+)@", text)}
    return sorted(filter(str.strip, found | {json.dumps(text)[1:-1] for text in found}), key=len, reverse=True)
