"""How many examples hypothesis tries: all of them in `make test` and CI, a share of them in `make quick`."""

from hypothesis import settings

ALL_EXAMPLES = 100
"""`max_examples` of the profile with which each test takes all its examples."""


def examples(number: int) -> int:
    """Return how many of so many examples the profile in use takes, at least two.

    Args:
        number: How many examples `make test` takes.
    """
    return max(2, number * settings().max_examples // ALL_EXAMPLES)
