"""`identity` copies lines and proves it."""

import os
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.compat.mapreduce import identity, lines
from imgpipeline.compat.mapreduce.identity import copy_lines
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import load_settings
from imgpipeline_tests.compat.mapreduce import classic
from imgpipeline_tests.examples import examples


def test_lines_are_copied_in_the_order_of_the_files(tmp_path: Path):
    location = classic.write_files(tmp_path / "in", [b"b\r\n\x00\xff\n", b"", b"a\rno end"])
    done = copy_lines(str(location), str(tmp_path / "out"), load_settings())
    assert (tmp_path / "out").read_bytes() == b"b\n\x00\xff\na\nno end\n"
    assert (done.files, done.lines, done.read_back) == (3, 4, True)
    assert done.sha256 == sha256(b"b\n\x00\xff\na\nno end\n").hexdigest()


@given(st.lists(st.binary(max_size=12) | st.text("ab\r\n", max_size=12).map(str.encode), max_size=3), st.integers(1, 5))
@settings(max_examples=examples(200))
def test_any_bytes_are_lines_as_hadoop_cuts_them(files: list[bytes], block_bytes: int):
    files = [data.removeprefix(b"\xef\xbb\xbf") for data in files]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block_bytes)
        location = classic.write_files(Path(folder) / "in", files)
        done = copy_lines(str(location), f"{folder}/out", load_settings())
        output = Path(folder, "out").read_bytes()
    expected = [line for data in files for line in classic.split_lines(data)]
    assert output == b"".join(line + b"\n" for line in expected)
    assert done.lines == len(expected)


def test_an_output_that_lost_a_byte_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    location = classic.write_files(tmp_path / "in", [b"a\nb\n"])
    monkeypatch.setattr(identity, "write", lambda stream, data: stream.write(data[:-2]))
    with pytest.raises(PermanentError, match=r"holds 1 lines .* expected 2 lines"):
        copy_lines(str(location), str(tmp_path / "out"), load_settings())
    assert not (tmp_path / "out").exists()


def test_an_output_is_replaced_as_a_whole_and_never_one_of_the_inputs(tmp_path: Path):
    location = classic.write_files(tmp_path / "in", [b"a\n"])
    (tmp_path / "out").write_bytes(b"older and longer\n")
    copy_lines(str(location), str(tmp_path / "out"), load_settings())
    assert (tmp_path / "out").read_bytes() == b"a\n"
    with pytest.raises(ConfigurationError, match="one of the files to read"):
        copy_lines(str(location), str(location / "0000"), load_settings())
    with pytest.raises(ConfigurationError, match="cannot be written"):
        copy_lines(str(location), str(tmp_path / "nowhere" / "out"), load_settings())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_pipe_or_device_is_never_replaced_and_a_link_leads_to_its_file(tmp_path: Path):
    location = classic.write_files(tmp_path / "in", [b"a\n"])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "alias").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "alias"):
        with pytest.raises(ConfigurationError, match="not a file"):
            copy_lines(str(location), str(tmp_path / name), load_settings())
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "real").write_bytes(b"older\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    copy_lines(str(location), str(tmp_path / "link"), load_settings())
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"a\n"
