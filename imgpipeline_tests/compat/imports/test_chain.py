"""An import is idempotent, continues where it stopped, and is refused if its earlier rows have changed."""

import threading

import pytest

from imgpipeline.compat.imports import chain as chains
from imgpipeline.compat.imports.chain import ImportResult
from imgpipeline.compat.imports.meanings import ColumnNames
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.reading import find_end
from imgpipeline_tests.compat.imports.conftest import DETECTIONS, import_csv
from imgpipeline_tests.compat.imports.samples import csv_lines, frames_of, held, letters_of, write_csv


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 100 rows: several of them come from small files."""
    monkeypatch.setattr(chains, "SEGMENT_ROWS", 100)


def test_the_same_file_again_adds_nothing(settings, store, tmp_path):
    path = write_csv(tmp_path / "counts.csv", csv_lines(250))
    first, second = import_csv(settings, path), import_csv(settings, path)
    assert (first.rows, first.frames, first.already_there, first.segments) == (250, 250, 0, 3)
    assert (second.rows, second.frames, second.already_there, second.segments) == (250, 0, 250, 0)
    assert second.days == ()
    assert len(frames_of(held(store, DETECTIONS))) == 250


def test_a_longer_file_continues_where_the_chain_ends(settings, store, tmp_path):
    lines = csv_lines(430)
    short = write_csv(tmp_path / "counts.csv", lines[:151])
    import_csv(settings, short)
    longer = import_csv(settings, write_csv(tmp_path / "counts-later.csv", lines))
    assert (longer.rows, longer.already_there, longer.frames) == (430, 150, 280)
    frames = frames_of(held(store, DETECTIONS))
    assert [frame.offset for frame in frames] == list(range(430))
    assert len({frame.frame_id for frame in frames}) == 430


def test_a_changed_row_is_refused_and_named(settings, store, tmp_path):
    lines = csv_lines(250)
    import_csv(settings, write_csv(tmp_path / "counts.csv", lines))
    lines[124] = "2026-01-05 12:00:00,elephant,0.5"
    with pytest.raises(LedgerError, match=r"row 123 \(other\.csv:125\) is the first that differs") as caught:
        import_csv(settings, write_csv(tmp_path / "other.csv", [*lines, *csv_lines(20)[1:]]))
    assert "--name" in str(caught.value)
    assert len(held(store, DETECTIONS)) == 250


def test_a_row_put_in_before_the_end_is_refused_and_named(folder_settings, tmp_path):
    lines = csv_lines(250)
    import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))
    lines.insert(51, "2026-01-05 12:00:00,elephant,0.5")
    with pytest.raises(LedgerError, match=r"row 50 \(counts\.csv:52\) is the first"):
        import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))


def test_a_changed_dead_letter_is_refused_and_named(folder_settings, tmp_path):
    lines = csv_lines(20)
    lines[8] = "never,car,0.5"
    import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))
    lines[8] = "soon,car,0.5"
    with pytest.raises(LedgerError, match=r"row 7 .* the ledger has a dead letter there"):
        import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))


def test_a_change_that_changes_no_frame_is_refused_too(folder_settings, tmp_path):
    lines = csv_lines(150)
    import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))
    lines[3] += "0"
    with pytest.raises(LedgerError, match=r"one of the rows 0 to 99 \(counts\.csv:2 and later\)"):
        import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))


def test_a_shorter_file_is_refused(folder_settings, tmp_path):
    lines = csv_lines(150)
    import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))
    with pytest.raises(LedgerError, match="150 rows in the ledger, but the input has 100"):
        import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines[:101]))


def test_other_columns_are_another_import(folder_settings, tmp_path):
    path = write_csv(tmp_path / "counts.csv", csv_lines(10))
    import_csv(folder_settings, path)
    with pytest.raises(LedgerError, match="different options"):
        import_csv(folder_settings, path, ColumnNames(source="detected_label"))


@pytest.mark.medium
def test_two_imports_at_once_share_the_work_and_duplicate_nothing(settings, store, tmp_path):
    path = write_csv(tmp_path / "counts.csv", csv_lines(3_000))
    results: list[ImportResult] = []
    both = [threading.Thread(target=lambda: results.append(import_csv(settings, path))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(120)
    assert [result.rows for result in results] == [3_000, 3_000]
    assert sum(result.frames for result in results) == 3_000
    assert len(frames_of(held(store, DETECTIONS))) == 3_000


def test_an_import_that_finds_shorter_segments_starts_again_after_them(folder_settings, tmp_path, monkeypatch):
    """Another release, or one with larger rows, may end its segments elsewhere."""
    path = write_csv(tmp_path / "counts.csv", csv_lines(300))
    begun = threading.Event()

    def put_others_first(*_: int) -> None:
        if not begun.is_set():
            begun.set()
            monkeypatch.setattr(chains, "SEGMENT_ROWS", 30)
            import_csv(folder_settings, write_csv(tmp_path / "part.csv", csv_lines(300)[:71]))
            monkeypatch.setattr(chains, "SEGMENT_ROWS", 100)

    # The first report comes with the first row: by then the import has seen that the chain is empty.
    result = import_csv(folder_settings, path, progress=put_others_first)
    assert (result.rows, result.already_there, result.frames) == (300, 70, 230)


def test_large_rows_end_a_segment_sooner(folder_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(chains, "SEGMENT_BYTES", 1_000)
    result = import_csv(folder_settings, write_csv(tmp_path / "counts.csv", csv_lines(100)))
    assert result.segments > 3


def test_the_end_of_a_chain_holds_the_hash_of_all_rows(settings, store, tmp_path):
    import_csv(settings, write_csv(tmp_path / "counts.csv", csv_lines(120)))
    header = find_end(store, DETECTIONS).header
    assert header is not None
    assert header.fingerprint is not None
    assert (header.end, header.fingerprint.offset, header.fingerprint.timestamp_ms) == (120, 119, -1)
    assert (header.provenance.model_name, header.provenance.model_sha256) == ("", "")
    assert letters_of(held(store, DETECTIONS)) == []
