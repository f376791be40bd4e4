"""docs/reliability.md tells of every fault, and names the tests that prove it."""

import pytest

from imgpipeline_tests.faults.documented import PAGE, proofs, rows, with_proofs


@pytest.mark.medium
def test_the_page_tells_of_every_fault_that_has_a_test_and_of_no_other():
    assert rows(PAGE.read_text(encoding="utf-8")).keys() == proofs().keys()


def test_the_page_names_the_tests_that_there_are():
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_proofs(text), "run `python -m imgpipeline_tests.faults.documented`"
