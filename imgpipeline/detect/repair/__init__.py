"""What a repair of the ledger needs Kafka and the model for, and giving a replaced log a chain of its own."""
