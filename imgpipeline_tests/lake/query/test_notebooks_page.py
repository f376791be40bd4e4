"""The Python code of docs/notebooks.md runs and prints what the page shows."""

import ast
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "notebooks.md"
_EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<shown>.*?)```", re.DOTALL)


@pytest.mark.medium
def test_each_block_shows_what_the_page_says(folder_site):
    page = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    examples = [(found["code"], found["shown"]) for found in _EXAMPLE.finditer(page)]
    assert len(examples) == page.count("```python") == 12
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        assert [shown for _, shown in examples] == [run_cell(code, names) for code, _ in examples]


def run_cell(code: str, names: dict[str, Any]) -> str:
    """Run code like a notebook's cell: return what it prints, and the value of its last line."""
    *statements, last = ast.parse(code).body
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(statements, []), "cell", "exec"), names)  # noqa: S102 - the page's own code
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307 - the page's own code
            printed.write(f"{value!r}\n")
        else:
            exec(compile(code, "cell", "exec"), names)  # noqa: S102 - the page's own code
    return printed.getvalue()
