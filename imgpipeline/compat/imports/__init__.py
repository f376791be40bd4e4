"""Imports detections and metadata of other programs into the ledger.

Each import has its own chain, `import.<name>`. Each CSV row or JSON document is one offset and becomes a frame or a
dead letter, like a Kafka record. So an import is idempotent, audited and traceable like a topic. `files` reads rows,
`detection_rows` and `metadata_documents` interpret them, `chain` writes segments.
"""
