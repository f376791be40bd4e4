"""Counts in messages: `1 frame`, `2 frames`, `12,345 frames`."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun in the right form.

    Args:
        number: How many.
        noun: In the singular, with its adjectives: `dead letter`.
        plural: Where it is not the singular with an `s`: `entries`.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
