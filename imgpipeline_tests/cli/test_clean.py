"""`imgpipeline clean` empties a store in a folder, and nothing else."""

from pathlib import Path

import pytest

from imgpipeline_tests.cli.command import Ended, run

ROWS = "timestamp,detected_label,confidence\n2026-01-09 07:00:00,car,0.9\n2026-01-09 07:00:01,dog,0.8\n"


@pytest.fixture
def store(folder_site: dict[str, str], tmp_path: Path) -> Path:
    """A store with a ledger, images and the tables of a day."""
    fill(folder_site, tmp_path)
    image = tmp_path / "store" / "images" / "gate" / "2026-01-09" / "0007.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    return tmp_path / "store"


def fill(site: dict[str, str], folder: Path) -> None:
    (folder / "rows.csv").write_text(ROWS)
    assert run("import", "detections", "rows.csv", "--build", env=site, cwd=folder).status == 0


def clean(site: dict[str, str], folder: Path, *options: str) -> Ended:
    return run("clean", *options, env=site, cwd=folder)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.medium
def test_without_a_confirmation_nothing_changes(store, folder_site, tmp_path):
    before = files_in(tmp_path)
    refused = clean(folder_site, tmp_path)
    assert refused.status == 1
    assert "│ images " in refused.stdout
    assert "Nothing was changed" in refused.stderr
    assert "--yes" in refused.stderr
    assert files_in(tmp_path) == before


@pytest.mark.medium
def test_a_cleaned_store_is_as_good_as_new_and_everything_else_is_untouched(store, folder_site, tmp_path):
    elsewhere = tmp_path / "archive" / "picture.jpg"
    for own in (elsewhere, store / "Documents" / "letter.txt", store / "rules.toml"):
        own.parent.mkdir(exist_ok=True)
        own.write_text("precious")
    (store / "images" / "linked").symlink_to(elsewhere.parent)
    (store / "alerts").symlink_to(elsewhere.parent)
    ended = clean(folder_site, tmp_path, "--yes")
    assert ended.status == 0
    assert "Kept: Documents, rules.toml." in ended.stderr
    assert {path.name for path in store.iterdir()} <= {"Documents", "rules.toml", ".locks"}
    assert [path.read_text() for path in (elsewhere, store / "Documents" / "letter.txt")] == ["precious"] * 2
    fill(folder_site, tmp_path)
    audit = run("audit", env=folder_site, cwd=tmp_path)
    assert audit.status == 0, audit.stdout + audit.stderr


def test_a_bucket_is_refused_with_the_command_that_empties_it(tmp_path):
    site = {
        "IMGPIPELINE_STORE_URL": "s3://bucket/site",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "S3_ENDPOINT_URL": "http://127.0.0.1:7070",
    }
    ended = clean(site, tmp_path, "--yes")
    assert ended.status == 1
    assert "aws s3 rm --recursive s3://bucket/site/ --endpoint-url http://127.0.0.1:7070" in ended.stderr


def test_a_folder_without_a_ledger_may_be_no_store_and_is_refused(folder_site, tmp_path):
    (tmp_path / "store" / "images").mkdir(parents=True)
    (tmp_path / "store" / "images" / "holiday.jpg").write_text("precious")
    ended = clean(folder_site, tmp_path, "--yes")
    assert (ended.status, "has no ledger" in ended.stderr) == (1, True)
    assert (tmp_path / "store" / "images" / "holiday.jpg").exists()
