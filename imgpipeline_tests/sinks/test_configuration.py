"""The setting `sinks`: names, kinds, passwords, tables, and sinks of other packages."""

import sys
from importlib.metadata import EntryPoint

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings
from imgpipeline.sinks.configuration import kinds, load_sinks, open_sink
from imgpipeline.sinks.exporting import Exporter
from imgpipeline.sinks.protocol import SHARED_TABLES, StoredDay
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day, wanted_rows

MONDAY = day_number(0)
CANARY = "se cret/canary@"


def load(sinks):
    return load_sinks(load_settings(sinks=sinks))


def test_a_password_is_kept_apart_from_the_url():
    (config,) = load("warehouse=postgresql://ada:se%20cret%2Fcanary%40@db:5432/site?options=x")
    assert config.url == "postgresql://ada@db:5432/site?options=x"
    assert config.password is not None
    assert config.password.get_secret_value() == CANARY
    assert "canary" not in repr(config)


def test_tables_can_be_chosen():
    (config,) = load("warehouse=postgresql://db/site?tables=detections,label_counts")
    assert [table.name for table in open_sink(config)[1]] == ["detections", "label_counts"]
    assert config.url == "postgresql://db/site"


def test_a_kind_without_a_url_takes_the_variables_of_older_pipelines(monkeypatch):
    monkeypatch.setenv("ES_HOST_URL", "https://search:9200")
    monkeypatch.setenv("ES_USERNAME", "elastic")
    monkeypatch.setenv("ES_PASSWORD", CANARY)
    (config,) = load("elasticsearch")
    assert (config.name, config.kind, config.url) == ("elasticsearch", "elasticsearch", "https://elastic@search:9200")
    assert config.password is not None
    assert config.password.get_secret_value() == CANARY


@pytest.mark.parametrize(
    ("sinks", "wrong"),
    [
        ("warehouse=mysql://ada:canary@db/site", "begins with one of"),
        ("Ware-House=postgresql://ada:canary@db/site", "lower-case"),
        ("postgresql", "without a URL"),
        ("a=postgresql://db/site a=postgresql://db/other", "Two sinks are named a"),
    ],
)
def test_an_invalid_setting_is_an_error_without_the_password(sinks, wrong):
    with pytest.raises(ConfigurationError, match=wrong) as refused:
        load(sinks)
    assert "canary" not in str(refused.value)


def test_an_unknown_table_is_an_error_that_lists_the_tables():
    (config,) = load("warehouse=postgresql://db/site?tables=cars")
    with pytest.raises(ConfigurationError, match="frame_paths"):
        open_sink(config)


class MemorySink:
    """A sink of another package: it keeps rows in memory."""

    tables = SHARED_TABLES[:1]

    def __init__(self, _config) -> None:
        self.days, self.rows = {}, {}

    def check(self) -> str:
        return "memory 1"

    def stored_days(self, _table):
        return self.days

    def replace_day(self, _table, day, rows, version) -> int:
        self.rows[day] = rows.read_all().to_pylist()
        self.days[day] = StoredDay(version, len(self.rows[day]), None)
        return len(self.rows[day])

    def remove_day(self, _table, day) -> None:
        del self.days[day], self.rows[day]

    def row_counts(self, _table):
        return {day: len(rows) for day, rows in self.rows.items()}

    def close(self) -> None:
        pass


def test_a_sink_of_another_package_is_found_by_its_entry_point(store, tmp_path, monkeypatch):
    folder = tmp_path / "others-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[imgpipeline.sinks]\nmemory = {__name__}:MemorySink\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert isinstance(kinds()["memory"], EntryPoint)
    put_day(store, MONDAY, frames_of(MONDAY, 5))
    (config,) = load("shelf=memory://anywhere")
    exporter = Exporter(store, load_settings(), config)
    (done,) = exporter.export()
    assert (done.day, done.rows) == (MONDAY, len(wanted_rows(store, exporter.tables[0], MONDAY)))
    assert exporter.differences() == []
