"""The batch benchmarks compare answers before they compare times, and report what a contender has cost."""

import sys

import pytest

from benchmarks.batch import digest_of_lines, make_material, run_batch
from benchmarks.children import run_command
from benchmarks.classic_label_hour import map_lines, reduce_lines
from imgpipeline.compat.mapreduce.label_hour import count_label_hours
from imgpipeline.settings import load_settings


def test_the_order_of_times_is_no_difference_and_all_else_is(tmp_path):
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


@pytest.mark.medium
def test_all_programs_agree_on_the_material(tmp_path):
    material = make_material(tmp_path, 2_000, 7)
    assert len(list(material.one_a_file.iterdir())) == 7
    lines = material.lines.read_text().splitlines(keepends=True)
    assert len(lines) == 2_000
    for name, source in (("lines", material.lines), ("segments", tmp_path / "store" / "metadata")):
        count_label_hours(str(source), str(tmp_path / name), load_settings())
    (tmp_path / "classic").write_text(
        "".join(reduce_lines(sorted(map_lines(lines), key=lambda line: line.partition("\t")[0])))
    )
    polars = run_batch("polars_documents", load_settings(), source=str(material.lines), target=str(tmp_path / "polars"))
    digests = {digest_of_lines(tmp_path / name) for name in ("lines", "segments", "classic", "polars")}
    assert len(digests) == 1
    assert polars.cpu_s > 0
    assert polars.whole_s > 0


def test_a_contender_costs_what_it_holds_itself_and_its_failure_is_told():
    """The peak of a child that holds little is not that of this process."""
    assert len(bytes(200 * 2**20)) > 0
    small = run_command([sys.executable, "-I", "-S", "-c", "pass"], load_settings())
    large = run_command([sys.executable, "-I", "-S", "-c", "bytearray(b'x' * 50 * 2**20)"], load_settings())
    assert small.peak_mib < 40 < large.peak_mib
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3: .*why"):
        run_command([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"], load_settings())


def test_a_contender_that_takes_too_long_is_killed():
    with pytest.raises(RuntimeError, match="ended with -9"):
        run_command([sys.executable, "-c", "import time; time.sleep(600)"], load_settings(), limit_s=0.5)
