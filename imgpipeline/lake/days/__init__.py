"""Builds day tables and summaries, and decides which of them are stale."""
