"""Filled stores that the environment names, for `Lake.open()` and for commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgpipeline.cli.app import app
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.lake.query.site import Site, fill
from imgpipeline_tests.objectstore.stores import SHARED_KINDS
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server


@pytest.fixture(scope="session", params=SHARED_KINDS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A filled store in a folder, and one in a real S3 bucket; both for reading only."""
    if request.param == "folder":
        return _fill_folder(tmp_path_factory.mktemp("notebooks"))
    s3: S3Server = request.getfixturevalue("s3")
    bucket: S3Bucket = s3.create_bucket("notebooks")
    return _fill({**bucket.environment(), "IMGPIPELINE_STORE_URL": f"{bucket.url}/site"})


@pytest.fixture(scope="session")
def filled_folder(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A filled store in a folder, for reading only."""
    return _fill_folder(tmp_path_factory.mktemp("notebooks"))


@pytest.fixture
def site(filled: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """The environment names the store `filled`."""
    return _named(filled, monkeypatch, tmp_path)


@pytest.fixture
def folder_site(filled_folder: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """The environment names the store `filled_folder`."""
    return _named(filled_folder, monkeypatch, tmp_path)


@pytest.fixture
def own_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """The environment names a filled folder of this test alone, which may write to it."""
    return _named(_fill_folder(tmp_path), monkeypatch, tmp_path)


def _fill_folder(parent: Path) -> Site:
    return _fill({"IMGPIPELINE_STORE_URL": (parent / "store").as_uri()})


def _fill(environment: dict[str, str]) -> Site:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return fill(open_store(load_settings()), environment)


def _named(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    monkeypatch.chdir(tmp_path)
    for name, value in {**site.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return site


@pytest.fixture
def command() -> Callable[..., str]:
    """Run a command in this process and return its stdout."""

    def run(*arguments: str) -> str:
        ended = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert ended.exit_code == 0, ended.stderr
        return ended.stdout

    return run
