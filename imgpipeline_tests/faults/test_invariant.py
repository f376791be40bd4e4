"""The check that all fault tests end in finds what it is there to find."""

import pytest

from imgpipeline.contracts.keys import DAY_INDEX, METADATA
from imgpipeline_tests.detect.conftest import LaneUnderTest
from imgpipeline_tests.faults.invariant import check


@pytest.fixture
def followed(lane: LaneUnderTest) -> LaneUnderTest:
    own = lane.with_settings(segment_max_records=2)
    own.announce(5)
    own.send(b"no message")
    own.follow()
    return own


def test_a_whole_ledger_passes_and_its_counts_are_answered(followed: LaneUnderTest):
    held = check(followed.settings)
    assert (len(held.frames), held.codes, held.gaps) == (5, {"INVALID_MESSAGE": 1}, [])


def test_a_ledger_that_is_behind_the_log_passes_only_where_that_is_allowed(followed: LaneUnderTest):
    followed.announce(1, first=5)
    check(followed.settings, drained=False)
    with pytest.raises(AssertionError, match="the log at 7"):
        check(followed.settings)


@pytest.mark.parametrize(("prefix", "number"), [(METADATA, 0), (METADATA, 1), (METADATA, 2), (DAY_INDEX, 0)])
def test_a_lost_object_fails(followed: LaneUnderTest, prefix: str, number: int):
    store = followed.store
    store.delete(sorted(info.key for info in store.list_objects(prefix))[number])
    with pytest.raises(AssertionError):
        check(followed.settings)
