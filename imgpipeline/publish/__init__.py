"""Publishes results to Kafka, exactly once for `read_committed` consumers even if a process is killed."""
