"""`imgpipeline report` writes a day's page to a file or to stdout, and nothing into the store."""

import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import DAY, frame, write_chain
from imgpipeline_tests.reports.reading import ReadPage
from imgpipeline_tests.reports.samples import seen


@pytest.fixture
def filled(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
) -> dict[str, str]:
    yesterday = utc_now().date() - timedelta(days=1)
    write_chain(store_of(folder_site), [seen(0), seen(1)], [frame(2, yesterday)])
    return {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.medium
def test_a_report_is_written_to_a_file_and_the_same_to_stdout(filled: dict[str, str], tmp_path: Path):
    before = sorted((tmp_path / "store").rglob("*"))
    out = tmp_path / "day.html"
    (tmp_path / "plain").touch()
    ended = run("report", "--day", DAY.isoformat(), "--out", str(out), env=filled, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ended.stdout == ""
    assert str(out) in ended.stderr
    assert ReadPage(out.read_bytes()).numbers["frames"] == "2"
    assert out.stat().st_mode & 0o777 == (tmp_path / "plain").stat().st_mode & 0o777
    assert [path.name for path in tmp_path.glob("*day.html*")] == ["day.html"]
    shown = run("report", "--day", DAY.isoformat(), "--out", "-", env=filled, cwd=tmp_path)
    assert shown.stdout.encode() == out.read_bytes()
    assert sorted((tmp_path / "store").rglob("*")) == before


@pytest.mark.medium
def test_a_report_of_a_day_of_another_time_zone(filled: dict[str, str], tmp_path: Path):
    """Both frames are of 12:00 UTC, which is the next day at the other end of the world; nothing is put."""
    before = sorted((tmp_path / "store").rglob("*"))
    zone = ("--timezone", "Pacific/Kiritimati")
    ended = run("report", "--day", f"{DAY + timedelta(days=1)}", *zone, "--out", "-", env=filled, cwd=tmp_path)
    assert ReadPage(ended.stdout.encode()).numbers["frames"] == "2", ended.stderr
    assert "All times are in Pacific/Kiritimati." in ended.stdout
    assert sorted((tmp_path / "store").rglob("*")) == before


@pytest.mark.medium
def test_the_default_is_the_report_of_yesterday_in_the_working_folder(filled: dict[str, str], tmp_path: Path):
    yesterday = utc_now().date() - timedelta(days=1)
    ended = run("report", env=filled, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ReadPage((tmp_path / f"report-{yesterday}.html").read_bytes()).numbers["frames"] == "1"


def test_a_day_without_data_names_the_known_days(filled: dict[str, str], tmp_path: Path):
    ended = run("report", "--day", "2020-05-05", "--out", str(tmp_path / "day.html"), env=filled, cwd=tmp_path)
    assert ended.status == 1
    assert "There is nothing for 2020-05-05." in ended.stderr
    assert DAY.isoformat() in ended.stderr
    assert "Next: imgpipeline report --day" in ended.stderr
    assert not (tmp_path / "day.html").exists()


@pytest.mark.medium
def test_the_commands_that_are_shown_lead_to_the_frames_behind_a_number(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
):
    label = "a'; touch here\u202e \x80"
    write_chain(store_of(folder_site), [seen(0, labels=(label, label)), seen(1, hour=7), seen(2, labels=(label,))])
    environment = {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    out = tmp_path / "day.html"
    run("report", "--day", DAY.isoformat(), "--out", out, env=environment, cwd=tmp_path)
    commands = [line for line in ReadPage(out.read_bytes()).texts if line.startswith("imgpipeline ")]
    explain = next(line for line in commands if " explain " in line)
    explained = run(*words(explain), "--json", env=environment, cwd=tmp_path).json()
    assert (explained["label"], explained["hour"], explained["count"]) == (label, 12, 3)
    frames = next(line for line in commands if "explain_frame_stats" in line)
    found = run(*words(frames), "--json", env=environment, cwd=tmp_path).json()
    assert sorted(row["source_image_path"] for row in found) == ["images/0.jpg", "images/2.jpg"]
    assert all(row["segment"].startswith("metadata/") for row in found)


def words(command: str) -> list[str]:
    """Return the arguments of a command as Bash reads them."""
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    return shown.stdout.decode().split("\0")[1:-1]


@pytest.mark.medium
def test_a_file_that_cannot_be_written_is_an_error(filled: dict[str, str], tmp_path: Path):
    missing = tmp_path / "missing" / "day.html"
    ended = run("report", "--day", DAY.isoformat(), "--out", missing, env=filled, cwd=tmp_path)
    assert ended.status == 1
    assert "cannot be written" in ended.stderr
    assert "--out" in ended.stderr


@pytest.mark.medium
def test_a_pipe_is_not_replaced_by_a_report_and_nothing_is_left_behind(filled: dict[str, str], tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        ended = run("report", "--day", DAY.isoformat(), "--out", tmp_path / name, env=filled, cwd=tmp_path)
        assert ended.status == 1
        assert "not a file" in ended.stderr
    assert (tmp_path / "pipe").is_fifo()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
