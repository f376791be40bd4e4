"""DuckDB sessions over one snapshot of the lake: its tables, views and macros, with the newest segments included."""
