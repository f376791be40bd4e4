"""Imports: detections and metadata that other programs have made, brought into the ledger.

An import is a chain of its own, `import.<name>`: each row of a CSV file, each document, is one offset, and ends as
a frame or a dead letter like a record of Kafka. So it is idempotent, audited and traceable like one. Nothing here knows
Kafka. What rows there are belongs to `csv_rows` and `documents`, what they mean to `detection_rows` and
`metadata_documents`, how they become segments to `chain`.
"""
