"""The table of precisions: frames per second of each, against 32-bit floats and the classic consumer."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.table import Table, at_least

_GOALS = {"fp32": 2.5, "bf16": 3.5, "int8": 3.5}
"""Times the classic consumer."""


def precision_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables of `benchmarks.precision`. Ratios are those within a round, in the median."""
    columns = (
        "model",
        "run",
        "frames/s",
        "times fp32",
        "times classic",
        "least to greatest",
        "goal",
        "F1 against fp32",
    )
    rows = [_row(network, name) for network in part["networks"] for name in network["rates"]]
    missing = [Table(("left out, because",), tuple((text,) for text in part["missing"]))] if part["missing"] else []
    return [Table(columns, tuple(rows)), *missing]


def _row(network: Mapping[str, Any], name: str) -> tuple[str, ...]:
    rates, f1 = network["rates"], network["f1"].get(name)
    run = f"int8, {network['int8_convolutions']} of {network['convolutions']} layers" if name == "int8" else name
    classic = _ratios(rates[name], rates["classic"]) if "classic" in rates and name != "classic" else []
    goal = at_least(median(classic), _GOALS[name]) if classic else ""
    if name == "int8" and f1 is not None:
        goal = at_least(f1, 0.98)
    return (
        network["network"],
        run,
        f"{median(rates[name]):.1f}",
        f"{median(_ratios(rates[name], rates['fp32'])):.2f}",
        f"{median(classic):.2f}" if classic else "",
        f"{min(classic):.2f} to {max(classic):.2f}" if classic else "",
        goal,
        "" if f1 is None else f"{f1:.4f}",
    )


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Returns the ratio of each round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]
