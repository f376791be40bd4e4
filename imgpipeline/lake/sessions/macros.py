"""The table macros of a query session: SQL that follows a number back to its frames (`macros_sql/*.sql`)."""

from importlib import resources

from imgpipeline.lake.storage.engine import Engine

COUNTED_DETECTIONS = "working.counted_detections"
"""The detections behind a number, without their segments: what needs no reading of the ledger."""
MACROS = ("counted_detections", "explain_label_counts", "explain_label_totals", "explain_frame_stats")
"""All of them, each after those that it uses."""
LEDGER_MACROS = tuple(name for name in MACROS if name.startswith("explain_"))
"""Those for users: they read `segments`, which is filled when a query asks for it."""


def create_macros(engine: Engine) -> None:
    """Creates all macros over the views of a session."""
    for name in MACROS:
        engine.run(macro_sql(name))


def macro_sql(name: str) -> str:
    """Returns the statement that makes a macro."""
    return (
        resources.files("imgpipeline.lake.sessions").joinpath("macros_sql", f"{name}.sql").read_text(encoding="utf-8")
    )
