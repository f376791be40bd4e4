"""The lake: daily Parquet, summaries, query sessions, and the audit of all of it.

Owns the columns of the day tables (`tables`), their building (`day_tables`, `summaries`), the snapshot a query reads
(`session`) and the audit (`audit`). It promises that every table says up to which end of which chain it was made, that
this never goes backwards, and that no reader needs this project: one Parquet object a day and table, hive-style.

Importing this package loads neither DuckDB nor pyarrow; its modules do.
"""
