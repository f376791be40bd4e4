"""The house style that no linter checks: sizes, module docstrings, and what no file may hold.

The patterns are put together here from pieces, so that this file does not hold what it forbids.
"""

import ast
import re
import subprocess
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MOST_MODULE_LINES = 600
MOST_FUNCTION_LINES = 40
TOP_LEVEL = {
    *("imgpipeline", "imgpipeline_tests", "models", "workspace.yaml", "dagster.yaml", "pyproject.toml"),
    *(".ci", "docs", "deploy", "benchmarks", "Makefile", "constraints.txt", ".gitignore"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
}
LARGEST_FILE_BYTES = 2_500_000

INSTALLED_FROM = ("constraints.txt", "pyproject.toml", "Makefile")
FORBIDDEN = {
    "a place to fetch packages from": "index" + r"[-_]url|find" + "[-_]links|trusted" + "[-_]host|GO" + r"PROXY\s*="
    "|[rR]eposi" + r"tor(?:y|ies)>",
    "a path of one machine": r"(?<![\w.*])/(?:work|root|home|Users)/\w",
    "work left for later": rf"\b(?:{'TO' + 'DO'}|{'FIX' + 'ME'})\b",
    "a private key": "BEGIN [A-Z ]*PRIVATE " + "KEY",
    "a lint ignore without its reason": r"# no" + r"qa(?!: [A-Z0-9, ]+ - \S)",
    "a type ignore without its reason": r"# type: ig" + r"nore(?!\[[a-z, -]+\]\s+# \w)",
}


@cache
def tracked_files() -> tuple[Path, ...]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    files = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return tuple(file for file in files if file.is_file())


@cache
def modules() -> list[tuple[str, ast.Module, int]]:
    texts = {file: file.read_text() for file in tracked_files() if file.suffix == ".py"}
    return [(named(file), ast.parse(text), len(text.splitlines())) for file, text in texts.items()]


def named(file: Path) -> str:
    return str(file.relative_to(REPOSITORY))


def test_no_module_is_longer_than_600_lines():
    """Most have 100 to 400 lines. One idea may need more; two ideas need two files."""
    assert [f"{name}: {lines}" for name, _, lines in modules() if lines > MOST_MODULE_LINES] == []


def test_pytest_enters_every_folder_with_tests(pytestconfig):
    """By default, it skips folders with names such as `build` and `dist`, and the tests in them never run."""
    folders = {part for file in tracked_files() if file.name.startswith("test_") for part in file.parent.parts}
    assert [folder for folder in folders for skipped in pytestconfig.getini("norecursedirs")
            if fnmatch(folder, skipped)] == []  # fmt: skip


def test_no_function_is_longer_than_40_lines():
    """The docstring apart: what a caller has to know is not to be cut for the sake of a number."""
    too_long = [
        f"{name}:{node.lineno} {node.name}: {lines}"
        for name, tree, _ in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := lines_without_docstring(node)) > MOST_FUNCTION_LINES
    ]
    assert too_long == []


def test_tests_use_public_names_only():
    """A test that patches or imports a private name blocks the next refactoring; ruff sees accesses alone."""
    private = re.compile(
        r"""setattr\((?:[^()"']*,\s*["']|\s*["']imgpipeline[\w.]*\.)_\w|^from imgpipeline\S* import .*\b_(?!_)\w""",
        re.MULTILINE,
    )
    found = [
        named(file) for file in (REPOSITORY / "imgpipeline_tests").rglob("*.py") if private.search(file.read_text())
    ]
    assert found == []


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def test_every_module_says_what_it_owns():
    def is_empty(tree: ast.Module) -> bool:
        return not tree.body

    assert [name for name, tree, _ in modules() if not ast.get_docstring(tree) and not is_empty(tree)] == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what):
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{named(file)}:{number} {line.strip()[:80]}"
        for file in tracked_files()
        for number, line in enumerate(file.read_bytes().decode(errors="ignore").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_the_patterns_find_what_they_are_for():
    examples = {
        "a place to fetch packages from": "pip install --index" + "-url https://packages.example/simple",
        "a path of one machine": f"open('/{'home'}/me/data')",
        "work left for later": "# TO" + "DO: later",
        "a private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
        "a lint ignore without its reason": "x = 1  # no" + "qa: E501",
        "a type ignore without its reason": "x = 1  # type: ig" + "nore[misc]",
    }
    assert {what for what, example in examples.items() if re.search(FORBIDDEN[what], example)} == set(FORBIDDEN)
    harmless = [
        f"import x  # no{'qa'}: S607 - the command is known",
        f"import x  # type: {'ignore'}[import-untyped]  # it has no annotations",
        *("s3://bucket/home/x", "/usr/local/go", "https://github.com/a/b", "todo list", "~/.cache"),
    ]
    assert not any(re.search(pattern, text) for pattern in FORBIDDEN.values() for text in harmless)


def test_packages_come_from_where_the_machine_says():
    """A URL in one of these files would bypass the package index that the machine is set up with."""
    files = [file for file in tracked_files() if named(file) in INSTALLED_FROM]
    assert len(files) == len(INSTALLED_FROM)
    assert [named(file) for file in files if "://" in file.read_text()] == []


def test_the_top_level_holds_only_what_the_design_names():
    assert {named(file).split("/")[0] for file in tracked_files()} - TOP_LEVEL == set()


def test_no_file_is_large():
    sizes = {named(file): file.stat().st_size for file in tracked_files()}
    assert {name: size for name, size in sizes.items() if size > LARGEST_FILE_BYTES} == {}
