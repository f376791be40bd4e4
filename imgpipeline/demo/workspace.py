"""The demo's folder, recreated at each start, and the settings that make everything use it."""

import os
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imgpipeline.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parents[1]
_MARK = "this-folder-belongs-to-the-demo"


@dataclass(frozen=True, slots=True)
class DemoWorkspace:
    """The folder of one demo."""

    folder: Path
    """Contains everything below; emptied at each start."""

    @property
    def store(self) -> Path:
        """The object store."""
        return self.folder / "store"

    @property
    def dagster_home(self) -> Path:
        """Dagster's runs, events and settings."""
        return self.folder / "dagster"

    @property
    def pictures(self) -> Path:
        """Simulated images before they are ingested."""
        return self.folder / "pictures"

    @property
    def logs(self) -> Path:
        """The logs of the servers."""
        return self.folder / "logs"

    def environment(self, model: str, first_day: date) -> dict[str, str]:
        """Returns the settings of a demo, for this process and the servers.

        They include everything that a demo depends on, so the environment or `.env` of a deployment cannot change it.

        Args:
            model: Registered model, or path of an ONNX file.
            first_day: First daily partition. A few days are easier to read than decades.
        """
        return {
            "IMGPIPELINE_FIRST_DAY": first_day.isoformat(),
            "DAGSTER_HOME": str(self.dagster_home),
            "IMGPIPELINE_STORE_URL": self.store.as_uri(),
            "IMGPIPELINE_KAFKA_TOPIC": "frames",
            "IMGPIPELINE_KAFKA_GROUP": "imgpipeline-demo",
            "IMGPIPELINE_MODEL": model,
            "IMGPIPELINE_LANES": "1",
            "IMGPIPELINE_LINGER_S": "8",
            "IMGPIPELINE_ALLOW_GAPS": "false",
            "PYTHONWARNINGS": "ignore",
        }


def prepare_workspace(folder: Path) -> DemoWorkspace:
    """Recreates the folder of a demo.

    Args:
        folder: The folder; the files of an earlier demo are deleted.

    Returns:
        The workspace, empty except for Dagster's settings.

    Raises:
        ConfigurationError: The folder is not empty and does not belong to a demo.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise ConfigurationError(
            f"{folder} is not empty and does not belong to a demo.", next_step="name another folder with --folder"
        )
    shutil.rmtree(folder, ignore_errors=True)
    workspace = DemoWorkspace(folder)
    for part in (workspace.store, workspace.dagster_home, workspace.pictures, workspace.logs):
        part.mkdir(parents=True)
    (folder / _MARK).touch()
    shutil.copyfile(_dagster_settings(), workspace.dagster_home / "dagster.yaml")
    return workspace


def _dagster_settings() -> Path:
    """Returns the file of Dagster's settings, in the wheel or in the checkout."""
    places = (_PACKAGE / "shipped" / "dagster.yaml", _PACKAGE.parent / "dagster.yaml")
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise ConfigurationError("Dagster's settings are not installed.", next_step="install imgpipeline again")
    return found


def enter(environment: dict[str, str]) -> None:
    """Applies the demo's settings to this process."""
    os.environ.update(environment)
