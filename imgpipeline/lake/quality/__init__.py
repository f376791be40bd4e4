"""Checks stored tables: the audit against the ledger, its verdicts, and warnings about a day's content."""
