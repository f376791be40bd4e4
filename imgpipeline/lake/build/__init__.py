"""Building day tables and summaries, and deciding which of them are stale."""
