"""The parts of a ledger repair that need Kafka and the model, and the start of a new chain for a replaced log."""
