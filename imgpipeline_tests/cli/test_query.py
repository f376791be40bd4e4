"""Numbers come out of the lake as a table or as one JSON document, also before any day table was built."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from imgpipeline.cli.output import show_csv
from imgpipeline.lake.schema import ALL
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import REPOSITORY, environment, run, run_new
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, seen
from imgpipeline_tests.ledger.samples import dead_letter, write_chain


@pytest.fixture
def filled(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
) -> dict[str, str]:
    write_chain(
        store_of(folder_site),
        [seen(0, CAR, DOG), seen(1, CAR), dead_letter(2)],
        [seen(3, DOG, day=NEXT_DAY), seen(4)],
    )
    return {**folder_site, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_label_counts_by_hour_with_their_times(filled: dict[str, str], tmp_path: Path):
    rows = run("summary", "label-counts", "--json", env=filled, cwd=tmp_path).json()
    assert [(row["day"], row["label"], row["count"]) for row in rows] == [
        ("2026-01-09", "car", 2),
        ("2026-01-09", "dög", 1),
        ("2026-01-10", "dög", 1),
    ]
    assert rows[0]["hour"] == "2026-01-09T12:00:00.000000Z"
    assert rows[0]["mean_confidence"] == pytest.approx(0.9)


@pytest.mark.medium
def test_label_counts_of_one_day_as_a_table(filled: dict[str, str], tmp_path: Path):
    ended = run_new("summary", "label-counts", "--day", "2026-01-10", env=filled, cwd=tmp_path)
    assert ended.status == 0
    assert "dög" in ended.stdout
    assert "car" not in ended.stdout


def test_the_help_names_every_table(tmp_path: Path):
    shown = " ".join(run("query", "--help", cwd=tmp_path).stdout.replace("│", " ").split())
    assert [table.name for table in ALL if table.name not in shown] == []


def test_any_table_answers_sql(filled: dict[str, str], tmp_path: Path):
    counts = "(SELECT count(*) FROM frames) AS f, (SELECT sum(frames) FROM segments) AS s"
    sql = f"SELECT {counts}, code, timestamp FROM dead_letters"  # noqa: S608 - all of it stands here
    (row,) = run("query", sql, "--json", env=filled, cwd=tmp_path).json()
    assert row == {"f": 4, "s": 4, "code": "DECODE_FAILED", "timestamp": "2026-01-09T12:00:00.000000Z"}


@pytest.mark.medium
def test_the_documented_recount_finds_the_file_without_a_frame_and_the_frame_without_a_file(
    folder_site: dict[str, str], store_of: Callable[[dict[str, str]], ObjectStore], tmp_path: Path
):
    (tmp_path / "images").mkdir()
    for name in ("counted", "missing"):
        (tmp_path / "images" / f"{name}.jpg").write_text(name)
    counted, unknown, missing = (sha256(name).hexdigest() for name in (b"counted", b"unknown", b"missing"))
    frames = [replace(seen(0), sha256=counted), replace(seen(1), sha256=unknown), seen(2)]
    write_chain(store_of(folder_site), frames)
    page = (REPOSITORY / "docs" / "tables.md").read_text()
    commands = page.split("```bash\n")[1].split("```")[0]
    found = environment(folder_site) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C"}
    asked = subprocess.run(["bash", "-c", commands], cwd=tmp_path, env=found, capture_output=True, check=True)
    assert sorted(asked.stdout.decode().splitlines()) == sorted([missing, f"\t{unknown}"])


def test_json_is_strict_and_loses_no_column(filled: dict[str, str], tmp_path: Path):
    sql = "SELECT 1 AS n, 2 AS n, 'nan'::DOUBLE AS x, [1.5, NULL] AS l, {'k': DATE '2026-01-09'} AS s, 1.25 AS d"
    (row,) = run("query", sql, "--json", env=filled, cwd=tmp_path).json()
    assert row == {"n": 1, "n_1": 2, "x": None, "l": [1.5, None], "s": {"k": "2026-01-09"}, "d": 1.25}


@pytest.mark.medium
def test_only_the_table_cuts_many_rows(filled: dict[str, str], tmp_path: Path):
    ended = run("query", "SELECT * FROM range(1500)", env=filled, cwd=tmp_path)
    assert "1,000 of 1,500 rows" in ended.stderr
    assert len(run("query", "SELECT * FROM range(1500)", "--json", env=filled, cwd=tmp_path).json()) == 1500


def test_rows_are_printed_as_csv(filled: dict[str, str], tmp_path: Path):
    sql = "SELECT 1 AS n, NULL AS n, '=1+1' AS f, TIMESTAMPTZ '2026-01-09 12:00Z' AS w, [1] AS l"
    ended = run("query", sql, "--csv", env=filled, cwd=tmp_path)
    assert ended.stdout == "n,n_1,f,w,l\n1,,'=1+1,2026-01-09T12:00:00.000000Z,[1]\n"


def test_csv_follows_rfc_4180_and_has_no_formulas(capsysbinary: pytest.CaptureFixture[bytes]):
    show_csv(["n", 'a "b", c'], [[-1.5, "-1"], [None, "two\r\nlines"], [True, float("nan")], [{"k": 1}, "\uff1d1"]])
    assert capsysbinary.readouterr().out == (
        b'n,"a ""b"", c"\r\n-1.5,\'-1\r\n,"two\r\nlines"\r\ntrue,\r\n"{""k"": 1}",\'\xef\xbc\x9d1\r\n'
    )


@pytest.mark.medium
@pytest.mark.parametrize(
    ("options", "days"),
    [
        (["--day", "2026-01-09"], ["2026-01-09"]),
        (["--from", "2026-01-10"], ["2026-01-10"]),
        (["--from", "2020-01-01", "--to", "2030-01-01"], ["2026-01-09", "2026-01-10"]),
        (["--to", "2020-01-01"], []),
    ],
)
def test_a_query_can_be_limited_to_days(options: list[str], days: list[str], filled: dict[str, str], tmp_path: Path):
    asked = run("query", "SELECT DISTINCT day FROM frames ORDER BY day", *options, "--json", env=filled, cwd=tmp_path)
    assert [row["day"] for row in asked.json()] == days


@pytest.mark.medium
@pytest.mark.parametrize("sql", ["SELEKT", "SELECT nothing FROM frames", "DROP VIEW frames", "SELECT 1; SELECT 2"])
def test_an_error_of_duckdb_is_one_message(sql: str, filled: dict[str, str], tmp_path: Path):
    ended = run("query", sql, "--json", env=filled, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: ")
    assert "Traceback" not in ended.stderr


def test_an_empty_lake_has_no_rows(folder_site: dict[str, str], tmp_path: Path):
    ended = run("summary", "label-counts", "--json", env=folder_site, cwd=tmp_path)
    assert (ended.status, ended.json()) == (0, [])
