"""`imgpipeline clean`: empty a store in a folder, to start again."""

import shutil
from pathlib import Path

from imgpipeline.cli.options import YesOption
from imgpipeline.cli.output import confirm, note, show_table
from imgpipeline.contracts.keys import IMAGES, METADATA
from imgpipeline.contracts.templates import RESERVED_FOLDER
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.urls import folder_of
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings, load_settings


def clean(yes: YesOption = False) -> None:
    """Delete everything that imgpipeline keeps in a store in a folder: images, ledger, tables. Asks first.

    Stop Dagster and all sources before. Afterwards, detection starts at the oldest record that Kafka has. Rules,
    settings, models and files of other programs stay, and links are removed without what they point to. A bucket is
    refused.
    """
    settings = load_settings()
    folder = _folder_of(settings)
    images = settings.image_key_template.partition("/")[0]
    entries = [each for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    own = [e for e in entries if e.is_dir() and (e.name in (IMAGES, images) or RESERVED_FOLDER.fullmatch(e.name))]
    # Neither `rglob` nor `rmtree` follows a link.
    files = {each.name: sum(not file.is_dir() for file in each.rglob("*")) for each in own if not each.is_symlink()}
    total = f"{counted(sum(files.values()), 'file')} in {folder}"
    show_table(("folder", "files"), [(each.name, files.get(each.name, "link")) for each in own])
    if kept := [each.name for each in entries if each not in own]:
        note(f"Kept: {', '.join(kept)}.")
    if not yes:
        confirm(f"Delete {total}?")
    for each in sorted(own, key=lambda each: each.name == METADATA):  # the last one, so a killed call can be repeated
        _remove(each)
    note(f"Deleted {total}.")


def _remove(folder: Path) -> None:
    try:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} cannot be deleted: {error.strerror}.",
            next_step="give this user write access to it, and run the command again",
        ) from error


def _folder_of(settings: Settings) -> Path:
    """Returns the folder of the store; raises ConfigurationError for a bucket, and for a folder without a ledger."""
    folder = folder_of(settings.store_url)
    if folder is None:
        server = f" --endpoint-url {settings.s3_endpoint}" if settings.s3_endpoint else ""
        raise ConfigurationError(
            f"{settings.store_url} is in a bucket, which other programs may use too; only a folder is cleaned.",
            next_step=f"set IMGPIPELINE_STORE_URL to an empty prefix, or delete everything below this one: "
            f"`aws s3 rm --recursive {settings.store_url}/{server}`",
        )
    if not Path(folder, METADATA).is_dir():
        raise ConfigurationError(
            f"{folder} has no ledger, so it may not be a store.",
            next_step="check IMGPIPELINE_STORE_URL, or delete the folder yourself",
        )
    return Path(folder)
