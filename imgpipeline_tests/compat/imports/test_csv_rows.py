"""CSV as people have it: byte order marks, line ends, quotes, gzip; and what is not CSV at all."""

import gzip
from pathlib import Path

import pytest

from imgpipeline.compat.imports.csv_rows import CsvRows
from imgpipeline.compat.imports.files import find_files
from imgpipeline.compat.imports.rows import Row, not_shown
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import Settings


def read(settings: Settings, path: Path, data: bytes, delimiter: str = ",") -> list[Row]:
    path.write_bytes(data)
    [file] = find_files(settings, [str(path)], [".csv"])
    rows = CsvRows(file, delimiter)
    assert rows.columns == ("a", "b")
    return list(rows.read(not_shown))


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y",
        b"a,b\r1,x\r2,y\r",
        b"\xef\xbb\xbfa,b\n1,x\n\n\n2,y\n",
        b" a , b \n1,x\n2,y\n",
        gzip.compress(b"a,b\n1,x\n2,y\n"),
    ],
    ids=["plain", "crlf", "cr", "byte order mark", "blanks", "gzip"],
)
def test_the_same_rows_have_the_same_bytes_whatever_the_file_is_like(
    folder_settings: Settings, tmp_path: Path, data: bytes
):
    rows = read(folder_settings, tmp_path / "counts.csv", data)
    assert [(row.raw, row.fields, row.problem) for row in rows] == [(b"1,x", ["1", "x"], ""), (b"2,y", ["2", "y"], "")]


def test_a_row_is_named_by_the_line_it_begins_at(folder_settings: Settings, tmp_path: Path):
    rows = read(folder_settings, tmp_path / "counts.csv", b'a,b\n\n1,"two\nlines, ""quoted"""\n2,y\n')
    assert [(row.place, row.fields) for row in rows] == [
        ("counts.csv:3", ["1", 'two\nlines, "quoted"']),
        ("counts.csv:5", ["2", "y"]),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1", "got 1 fields, expected 2 as in the header."),
        (b"1,2,3", "got 3 fields, expected 2 as in the header."),
        (b"1,caf\xe9", "it holds a byte that is not UTF-8."),
        (b'1,"x"y', "it is not valid CSV: ',' expected after '\"', in lines 2 to 2."),
    ],
    ids=["too few", "too many", "not UTF-8", "quote"],
)
def test_a_bad_row_says_why_and_the_next_one_is_read(
    folder_settings: Settings, tmp_path: Path, line: bytes, problem: str
):
    bad, good = read(folder_settings, tmp_path / "counts.csv", b"a,b\n" + line + b"\n2,y\n")
    assert (bad.problem, bad.raw) == (problem, line)
    assert (good.problem, good.fields) == ("", ["2", "y"])


def test_an_unclosed_quote_costs_at_most_a_field_s_length(folder_settings: Settings, tmp_path: Path):
    data = b'a,b\n1,"open\n' + b"2,y\n" * 100_000
    rows = read(folder_settings, tmp_path / "counts.csv", data)
    bad = [row for row in rows if row.problem]
    assert len(bad) == 1
    assert "field larger than field limit" in bad[0].problem
    assert len(bad[0].raw) < 132_000
    assert len(rows) > 60_000


def test_a_quote_that_is_open_at_the_end_is_one_bad_row(folder_settings: Settings, tmp_path: Path):
    rows = read(folder_settings, tmp_path / "counts.csv", b'a,b\n1,x\n2,"y\n3,z\n')
    assert [row.problem for row in rows] == ["", "it is not valid CSV: unexpected end of data, in lines 3 to 4."]


def test_other_characters_may_stand_between_columns(folder_settings: Settings, tmp_path: Path):
    [row] = read(folder_settings, tmp_path / "counts.csv", b"a;b\n1,5;x\n", ";")
    assert row.fields == ["1,5", "x"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04 and so on", "ZIP"),
        (b"PAR1 and so on", "Parquet"),
        (gzip.compress(b"PAR1 and so on"), "Parquet"),
        (b"", "has no header"),
    ],
    ids=["utf-16", "zip", "parquet", "gzipped parquet", "empty"],
)
def test_what_is_no_text_is_refused_by_name(folder_settings: Settings, tmp_path: Path, data: bytes, text: str):
    with pytest.raises(ConfigurationError, match=text) as caught:
        read(folder_settings, tmp_path / "counts.csv", data)
    assert caught.value.next_step


def test_a_gzip_file_that_is_cut_short_is_an_error_behind_its_good_rows(folder_settings: Settings, tmp_path: Path):
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(100_000)))
    path = tmp_path / "counts.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    [file] = find_files(folder_settings, [str(path)], [".csv"])
    reading = CsvRows(file).read(not_shown)
    assert next(reading).fields == ["0", "x"]
    with pytest.raises(PermanentError, match="not a complete gzip file"):
        list(reading)


def test_a_file_that_is_not_there_is_named(folder_settings: Settings, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"absent\.csv"):
        find_files(folder_settings, [str(tmp_path / "absent.csv")], [".csv"])
