"""The check that all fault tests end in finds what it is there to find."""

import pytest

from imgpipeline.contracts.keys import DAY_INDEX, METADATA
from imgpipeline_tests.faults.invariant import check


@pytest.mark.slow
def test_a_whole_ledger_passes_and_one_that_lost_an_object_or_is_behind_the_log_does_not(lane):
    own = lane.with_settings(segment_max_records=2)
    own.announce(5)
    own.send(b"no message")
    own.follow()
    held = check(own.settings)
    assert (len(held.frames), held.codes, held.gaps) == (5, {"INVALID_MESSAGE": 1}, [])

    keys = [sorted(info.key for info in own.store.list_objects(prefix)) for prefix in (METADATA, DAY_INDEX)]
    for key in (*keys[0], keys[1][0]):
        lost = own.store.get(key)
        own.store.delete(key)
        with pytest.raises(AssertionError):
            check(own.settings)
        own.store.put(key, lost)

    own.announce(1, first=5)
    check(own.settings, drained=False)
    with pytest.raises(AssertionError, match="the log at 7"):
        check(own.settings)
