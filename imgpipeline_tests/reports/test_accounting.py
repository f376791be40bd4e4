"""A page shows what the sources received and for how long they were observed, also where no frame came."""

from collections.abc import Callable

import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.reports.conftest import MakeReport
from imgpipeline_tests.reports.reading import ReadPage

pytestmark = pytest.mark.medium

STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED
ACCOUNTS = "What the sources received, and what became of it"
Read = Callable[[], ReadPage]


def test_accounts_and_observed_time_are_shown(store: ObjectStore, report: MakeReport, read: Read):
    write_chain(
        store,
        [said(0, STARTED), shot(1), shot(2), account(3, 2, gated=5, dropped={"queue": 3, "fps": 1}, failed=1)],
        [said(4, ENDED), said(5, STARTED, session="two"), account(6, 0, session="two", minute=1)],
    )
    page = read()
    assert page.section(ACCOUNTS)[1] == ["cam-1", "2 (1 open)", "12", "2", "2", "5", "1", "fps 1, queue 3"]
    assert page.numbers["observed"] == "2 min"
    assert "33.3% of 12 dropped" in page.text
    headline = report().headline
    assert (headline.received, headline.dropped, headline.notices, headline.observed_s) == (12, 4, 5, 120.0)


def test_a_source_that_saw_nothing_was_observed_all_the_same(store: ObjectStore, read: Read):
    write_chain(store, [said(0, STARTED), account(1, 0, observed_s=60)])
    page = read()
    assert (page.numbers["frames"], page.numbers["observed"]) == ("0", "1 min")


def test_a_source_without_notices_has_no_accounts(store: ObjectStore, report: MakeReport, read: Read):
    write_chain(store, [shot(0, session=None)])
    assert not read().section(ACCOUNTS)
    assert (report().headline.received, report().headline.notices) == (None, 0)
