"""API keys: shown once, kept as hashes, and valid for their sources."""

from base64 import b64encode
from datetime import UTC, datetime

import pytest

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.web.keys import KeyFile, Scope, sent_secret

NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)


def test_a_key_is_found_by_its_secret_and_allows_its_sources(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.add(("gate", "yard-*"), NOW)
    key = keys.find(secret)
    assert key
    assert [key.allows(source) for source in ("gate", "yard-7", "street")] == [True, True, False]
    assert keys.find(secret + "x") is None


def test_the_file_keeps_no_secret_and_only_its_owner_may_read_it(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.add(("gate",), NOW)
    assert secret not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o077 == 0


def test_a_removed_key_is_refused_by_the_next_request(tmp_path):
    keys, running = KeyFile(tmp_path / "keys.json"), KeyFile(tmp_path / "keys.json")
    secret, other = keys.add(("gate",), NOW), keys.add(("gate",), NOW)
    found = running.find(secret)
    assert found
    keys.remove(found.id)
    assert running.find(secret) is None
    assert running.find(other)
    with pytest.raises(UsageError, match="keys list"):
        keys.remove(found.id)


@pytest.mark.parametrize("text", ["{", '{"id": "1"}', "[1]", "5"])
def test_a_damaged_file_is_an_error_and_not_a_server_without_keys(tmp_path, text):
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ConfigurationError, match="not a valid file of API keys"):
        KeyFile(tmp_path / "keys.json").keys()


def test_scopes_limit_a_key_and_the_default_can_post(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    reader = keys.find(keys.add((), NOW, scopes=(Scope.READ,), name="anna"))
    assert reader
    assert (reader.name, reader.allows("gate")) == ("anna", False)
    keys.add(("gate",), NOW)
    assert [key.scopes for key in keys.keys(Scope.INGEST)] == [(Scope.INGEST,)]
    assert [key.scopes for key in keys.keys(Scope.READ)] == [(Scope.READ,)]


def test_keys_are_needed_once_there_was_one(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    assert not keys.are_needed(Scope.INGEST)
    keys.add(("gate",), NOW)
    assert (keys.are_needed(Scope.INGEST), keys.are_needed(Scope.READ)) == (True, False)
    keys.remove(keys.keys()[0].id)
    assert keys.are_needed(Scope.INGEST)


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        pytest.param("Bearer img_1", "img_1", id="bearer"),
        pytest.param("bearer  img_1 ", "img_1", id="spaces"),
        pytest.param("Basic " + b64encode(b"anna:img_1").decode(), "img_1", id="password"),
        pytest.param("Basic " + b64encode(b"img_1").decode(), "", id="no-password"),
        pytest.param("Basic img_1", "", id="not-base64"),
        pytest.param("Basic " + b64encode(b"\xff:x").decode(), "", id="not-utf-8"),
        pytest.param("Digest img_1", "", id="other"),
        pytest.param("", "", id="none"),
    ],
)
def test_the_key_in_an_authorization_header(header, secret):
    assert sent_secret(header) == secret
