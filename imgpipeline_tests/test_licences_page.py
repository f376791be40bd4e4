"""docs/licences.md has every pinned package, and names the GPL parts that a wheel contains."""

import re
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "licences.md").read_text()
MAKE_IT_AGAIN = "run .venv/bin/python .ci/licences.py"


def test_every_pinned_package_has_a_row_with_its_version_and_a_licence():
    pinned = re.findall(r"^([a-z0-9-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \| (\S+) \| (.+) \| (?:yes)? ?\|$", PAGE.partition("## All packages")[2], re.MULTILINE
    )

    assert [(name, version) for name, version, _ in rows] == pinned, MAKE_IT_AGAIN
    assert [name for name, _, licence in rows if not licence.strip()] == []


def test_the_codecs_under_the_gpl_are_named_if_the_wheel_of_pyav_contains_them():
    bundled = " ".join(Path(file).name for file in metadata.files("av") or [])
    for codec in ("libx264", "libx265"):
        assert (codec in bundled) == (f"| `av` | `{codec}` | GPL 2 or later |" in PAGE), MAKE_IT_AGAIN
