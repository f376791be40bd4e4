"""Short, stable ids for parametrized tests: workers that collect in different processes must see the same names."""

import re

LONGEST_VALUE = 24
"""Characters of one value in an id."""
LONGEST_ID = 60
"""Characters between the brackets of a test's name."""


def short_id(value: object, argument: str) -> str | None:
    """Return the id of one parametrized value.

    Bytes and text without a readable character are named by their argument; pytest numbers values of one name.

    Args:
        value: The value.
        argument: Name of the test's argument that gets it.

    Returns:
        The id, or None for pytest's own, which is short for numbers, booleans and names.
    """
    if isinstance(value, bytes):
        return argument
    if not isinstance(value, str):
        return None
    readable = re.sub(r"[^\w.,:;=+*/<> -]+", "_", value, flags=re.ASCII).strip("_ ")
    return readable[:LONGEST_VALUE].rstrip("_ ") or argument
