"""The lake: tables built from the ledger, queries over them, and the proof that they agree with it.

`schema` describes the columns, `storage` reads and writes Parquet objects, `build` makes day tables and summaries,
`sessions` opens them for SQL, `query` answers questions, `lineage` follows a number back to its frames, and `quality`
audits all of it. Importing this package loads neither DuckDB nor pyarrow; its modules do.
"""
