"""docs/reliability.md tells of every fault, and names the tests that prove it."""

from imgpipeline_tests.faults.documented import NUMBERS, PAGE, proofs, rows, with_proofs


def test_the_page_tells_of_every_fault():
    assert sorted(rows(PAGE.read_text(encoding="utf-8"))) == list(NUMBERS)


def test_every_fault_has_a_test():
    assert [number for number in NUMBERS if not proofs().get(number)] == []


def test_the_page_names_the_tests_that_there_are():
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_proofs(text), "run `python -m imgpipeline_tests.faults.documented`"
