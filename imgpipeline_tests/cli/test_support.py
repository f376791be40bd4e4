"""`imgpipeline upgrade --check` and `support-bundle`."""

import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.ledger import segment
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import CHAIN, frame, write_chain


@pytest.mark.medium
def test_the_check_before_an_upgrade_fails_on_a_store_of_a_later_release(folder_site, store_of, tmp_path, monkeypatch):
    store = store_of(folder_site)
    write_chain(store, [frame(0)])
    current = run("upgrade", "--check", env=folder_site, cwd=tmp_path)
    assert (current.status, current.stdout.count("same")) == (0, 3)
    assert "can be started on" in current.stderr

    monkeypatch.setattr(segment, "FORMAT_VERSION", 99)
    store.delete(segment_key(CHAIN, 0))
    write_chain(store, [frame(0)])
    later = run("upgrade", "--check", env=folder_site, cwd=tmp_path)
    assert (later.status, "program too old: do not start" in later.stdout) == (1, True)
    assert "must not be started on" in later.stderr
