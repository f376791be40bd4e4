"""Which tests prove what docs/reliability.md says of each fault: the last column of its table is made here.

`python -m imgpipeline_tests.faults.documented` rewrites that column. A test proves a fault where it is marked with
`@pytest.mark.fault(number)`, on the function, on its class, or on the whole module by `pytestmark`.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
_ROW = re.compile(r"^\| (?P<number>\d+) \|(?P<told>.*)\|[^|]*\|$", re.MULTILINE)


@cache
def proofs() -> dict[int, list[str]]:
    """Returns the tests that prove each fault, as `folder/test_file.py::test_name`."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.fault(" not in text:
            continue
        tree = ast.parse(text)
        whole = [n for node in tree.body if _is_pytestmark(node) for n in _numbers(node)]
        for test in _tests(tree):
            for number in {*whole, *_marks(test)}:
                found[number].append(f"{path.relative_to(TESTS)}::{test.name}")
    return {number: sorted(names) for number, names in found.items()}


def rows(text: str) -> dict[int, str]:
    """Returns what the page tells of each fault, without the tests."""
    return {int(match["number"]): match["told"] for match in _ROW.finditer(text)}


def with_proofs(text: str) -> str:
    """Returns the page with the tests of each fault in the last column."""
    found = proofs()

    def fill(match: re.Match[str]) -> str:
        names = "<br>".join(f"`{name}`" for name in found.get(int(match["number"]), ()))
        return f"| {match['number']} |{match['told']}| {names} |"

    return _ROW.sub(fill, text)


def _tests(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


def _marks(test: ast.FunctionDef) -> list[int]:
    return [number for decorator in test.decorator_list for number in _numbers(decorator)]


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)


def _numbers(node: ast.AST) -> Iterator[int]:
    """Yields the arguments of each `pytest.mark.fault(…)` in a piece of code."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "fault":
            yield from (a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, int))


if __name__ == "__main__":
    PAGE.write_text(with_proofs(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
