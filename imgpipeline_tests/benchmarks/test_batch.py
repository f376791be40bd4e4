"""The batch benchmarks compare answers before they compare times, and say what a contender has cost."""

import sys
from pathlib import Path

import duckdb
import pytest

from benchmarks.batch_answers import digest_of_lines, same_table, sum_of_counts
from benchmarks.batch_child import run_command, run_contender
from benchmarks.batch_material import make_detections, make_material
from benchmarks.classic_label_hour import map_lines, reduce_lines
from imgpipeline.compat.mapreduce.label_hour import count_label_hours
from imgpipeline.settings import load_settings


def test_the_order_of_times_is_no_difference_and_all_else_is(tmp_path: Path):
    def digest(text: str) -> str:
        (tmp_path / "answer").write_text(text)
        return digest_of_lines(tmp_path / "answer")

    assert digest("a\t2\t[t1, t2]\nb\t1\t[t1]\n") == digest("a\t2\t[t2, t1]\nb\t1\t[t1]\n")
    others = [
        "a\t2\t[t1, t1]\nb\t1\t[t1]\n",
        "a\t2\t[t1, t2]\n",
        "b\t1\t[t1]\na\t2\t[t1, t2]\n",
        "a\t3\t[t1, t2]\nb\t1\t[t1]\n",
    ]
    assert digest("a\t2\t[t1, t2]\nb\t1\t[t1]\n") not in [digest(other) for other in others]
    assert sum_of_counts(tmp_path / "answer") == 4


def test_tables_are_the_same_where_their_rows_are(tmp_path: Path):
    for name, rows in (
        ("a", "('x', 1), ('y', 2)"),
        ("b", "('y', 2), ('x', 1)"),
        ("c", "('x', 1)"),
        ("d", "('x', 1), ('y', 3)"),
    ):
        duckdb.sql(
            "COPY (SELECT label, TIMESTAMPTZ '2026-01-09 12:00:00+00' AS hour, count "  # noqa: S608 - a test's own rows
            f"FROM (VALUES {rows}) AS t(label, count)) "
            f"TO '{tmp_path / name}.parquet'"
        )
    same = {name: same_table(tmp_path / "a.parquet", tmp_path / f"{name}.parquet", "count") for name in "abcd"}
    assert same == {"a": True, "b": True, "c": False, "d": False}


def test_the_classic_job_and_ours_agree_on_the_material(tmp_path: Path):
    material = make_material(tmp_path, 2_000, 7)
    assert len(list(material.one_a_file.iterdir())) == 7
    lines = material.lines.read_text().splitlines(keepends=True)
    assert (len(lines), len(material.tenth.read_text().splitlines())) == (2_000, 200)
    for name, source in (("lines", material.lines), ("segments", tmp_path / "store" / "metadata")):
        count_label_hours(str(source), str(tmp_path / name), load_settings())
    (tmp_path / "classic").write_text(
        "".join(reduce_lines(sorted(map_lines(lines), key=lambda line: line.partition("\t")[0])))
    )
    digests = {digest_of_lines(tmp_path / name) for name in ("lines", "segments", "classic")}
    assert len(digests) == 1
    assert sum_of_counts(tmp_path / "lines") == 6_000


@pytest.mark.medium
def test_polars_and_the_summaries_give_one_answer(tmp_path: Path):
    make_detections(tmp_path / "rows.parquet", 5_000)
    task = {"source": str(tmp_path / "rows.parquet"), "question": "all", "rounds": 1}
    for who in ("our", "polars"):
        cost = run_contender(f"{who}_detections", load_settings(), {**task, "target": str(tmp_path / f"{who}.parquet")})
        assert cost.work_s is not None
        assert 0 < cost.work_s < cost.whole_s
    assert same_table(tmp_path / "our.parquet", tmp_path / "polars.parquet", "all")


def test_a_contender_costs_what_it_holds_itself_and_its_failure_is_told():
    """The peak of a child that holds little is not that of this process."""
    assert len(bytes(200 * 2**20)) > 0
    small = run_command([sys.executable, "-I", "-S", "-c", "pass"], load_settings())
    large = run_command([sys.executable, "-I", "-S", "-c", "bytearray(b'x' * 50 * 2**20)"], load_settings())
    assert small.peak_mib < 40 < large.peak_mib
    with pytest.raises(RuntimeError, match=r"ended with 3: .*why"):
        run_command([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"], load_settings())
