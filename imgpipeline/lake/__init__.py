"""The lake: tables built from the ledger, queries over them, and the audit that compares them with the ledger.

`schema` describes the columns, `storage` reads and writes Parquet objects, `build` makes day tables and summaries,
`sessions` opens them for SQL, `query` answers questions and traces numbers back to frames, and `quality` audits all of
it. Importing this package loads neither DuckDB nor pyarrow; its modules do.
"""
