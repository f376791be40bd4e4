"""Stores for imports, and functions that import like the command."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgpipeline.compat.imports.chain import ImportResult, import_rows
from imgpipeline.compat.imports.files import ENDINGS, CsvRows, Documents, find_files
from imgpipeline.compat.imports.meanings import ColumnNames, DetectionRows, MetadataDocuments
from imgpipeline.compat.imports.rows import Progress, not_shown
from imgpipeline.contracts.keys import import_chain
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, store_settings

NOW = datetime(2026, 2, 1, tzinfo=UTC)
DETECTIONS = import_chain("counts", "detections")
METADATA = import_chain("documents", "metadata")


@pytest.fixture(params=SHARED_KINDS)
def settings(request: pytest.FixtureRequest) -> Settings:
    """The settings of a fresh store: a folder, or a prefix of a real S3 bucket."""
    return store_settings(request.param, request)


@pytest.fixture
def folder_settings(request: pytest.FixtureRequest) -> Settings:
    """The settings of a fresh store in a folder."""
    return store_settings("folder", request)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """The store of the settings."""
    return open_store(settings)


def import_csv(
    settings: Settings, path: Path | str, names: ColumnNames | None = None, progress: Progress = not_shown
) -> ImportResult:
    """Import a CSV file under the name `counts`."""
    [file] = find_files(settings, [str(path)], [".csv"])
    rows = CsvRows(file)
    meaning = DetectionRows(rows.columns, names or ColumnNames(), DETECTIONS, "counts", settings.timezone)
    store = open_store(settings)
    return import_rows(settings, store, DETECTIONS, rows, meaning, clock=lambda: NOW, progress=progress)


def import_documents(settings: Settings, *paths: Path | str, labels: tuple[str, ...] = ()) -> ImportResult:
    """Import documents under the name `documents`."""
    rows = Documents(find_files(settings, [str(path) for path in paths], ENDINGS))
    meaning = MetadataDocuments(METADATA, "documents", labels, settings.timezone)
    return import_rows(settings, open_store(settings), METADATA, rows, meaning, clock=lambda: NOW)
