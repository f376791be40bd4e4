"""Questions about the lake: one implementation each, for `imgpipeline.Lake`, the commands and the viewer.

`lake` has the class for notebooks; `days` reads which days a question is about; the other modules answer the questions.
Importing this package loads neither DuckDB nor pyarrow; its modules do.
"""
