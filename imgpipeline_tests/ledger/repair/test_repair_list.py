"""The repair list has no gaps and loses no entry, however many repairs run at once."""

from threading import Thread

from imgpipeline.contracts.keys import ChainId
from imgpipeline.ledger.repair.repair_list import close_repair, list_repairs, open_repair, still_open
from imgpipeline_tests.ledger.bundles.samples import DAYS
from imgpipeline_tests.ledger.samples import CHAIN

LOGS = [CHAIN, ChainId("frames", "dGVzdA_topic-id", 1), ChainId("import.yard", "detections", 0)]


def test_two_repairs_at_a_time_get_numbers_without_gaps(store):
    def announce(chain: ChainId) -> None:
        for number in range(10):
            close_repair(store, open_repair(store, chain, number, number + 1, [DAYS[0]]))

    threads = [Thread(target=announce, args=(chain,)) for chain in LOGS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list_repairs(store)
    assert [entry.number for entry in found] == list(range(1, 61))
    assert still_open(found) == []
    assert list_repairs(store, after=55) == found[55:]
