"""API keys: shown once, kept as hashes, and valid for their sources."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.web.ingest.keys import KeyFile

NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)


def test_a_key_is_found_by_its_secret_and_allows_its_sources(tmp_path: Path):
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.add(("gate", "yard-*"), NOW)
    key = keys.find(secret)
    assert key
    assert [key.allows(source) for source in ("gate", "yard-7", "street")] == [True, True, False]
    assert keys.find(secret + "x") is None


def test_the_file_keeps_no_secret_and_only_its_owner_may_read_it(tmp_path: Path):
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.add(("gate",), NOW)
    assert secret not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o077 == 0


def test_a_removed_key_is_refused_at_once_even_where_the_file_is_open(tmp_path: Path):
    keys, running = KeyFile(tmp_path / "keys.json"), KeyFile(tmp_path / "keys.json")
    secret, other = keys.add(("gate",), NOW), keys.add(("gate",), NOW)
    found = running.find(secret)
    assert found
    keys.remove(found.id)
    assert running.find(secret) is None
    assert running.find(other)
    with pytest.raises(UsageError, match="keys list"):
        keys.remove(found.id)


def test_a_damaged_file_is_an_error_and_not_a_server_without_keys(tmp_path: Path):
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read as API keys"):
        KeyFile(tmp_path / "keys.json").keys()
