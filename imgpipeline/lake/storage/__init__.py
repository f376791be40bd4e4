"""Tables as Parquet objects: their footers, tables of several objects, local copies, and the DuckDB that reads them."""
