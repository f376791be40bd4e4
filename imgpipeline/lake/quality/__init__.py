"""Whether stored tables are right: the audit against the ledger, its verdicts, and warnings about a day's content."""
