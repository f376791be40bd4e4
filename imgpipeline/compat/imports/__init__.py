"""Imports: detections and metadata of other programs, brought into the ledger.

An import is a chain of its own, `import.<name>`. Each row of a CSV file, or each JSON document, is one offset and ends
as a frame or a dead letter, like a Kafka record. So an import is idempotent, audited and traceable like a topic.
`csv_rows` and `documents` read rows, `detection_rows` and `metadata_documents` interpret them, `chain` writes segments.
"""
