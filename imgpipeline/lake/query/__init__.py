"""Questions about the lake: one implementation each, for `imgpipeline.Lake` and for the commands.

`lake` has the class for notebooks; `frames`, `summaries` and `images` answer the questions; `days` reads which days
they are about. Importing this package loads neither DuckDB nor pyarrow; its modules do.
"""
