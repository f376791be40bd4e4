"""Names without a promise of Dagster and kafka-python are used in one file each, which says with which releases."""

import re
from pathlib import Path

import pytest

from imgpipeline.defs import dagster_internals
from imgpipeline.stream import kafka_internals

REPOSITORY = Path(__file__).resolve().parents[1]
PRIVATE = {
    "defs/dagster_internals.py": re.compile(r"dagster\._|context\._instance"),
    "stream/kafka_internals.py": re.compile(r"kafka\.(record|protocol|consumer\.fetcher|_)|_fetcher\b"),
}


@pytest.mark.parametrize("module", PRIVATE, ids=["Dagster", "kafka-python"])
def test_private_names_of_a_library_are_used_in_one_module_only(module):
    package = REPOSITORY / "imgpipeline"
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if PRIVATE[module].search(file.read_text(encoding="utf-8"))
    }
    assert found == {module}


@pytest.mark.parametrize(
    ("name", "tested"),
    [("dagster", dagster_internals.TESTED_VERSIONS), ("kafka-python", kafka_internals.TESTED_VERSIONS)],
    ids=["Dagster", "kafka-python"],
)
def test_the_pinned_release_is_one_that_was_tested(name, tested):
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(rf"^{name}==(.+)$", pins, re.MULTILINE) == [tested[-1]]
