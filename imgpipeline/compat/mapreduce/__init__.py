"""The classic Hadoop Streaming jobs as commands: the same input, the same lines, without a cluster.

Owns the three jobs (`label_hour`, `label_total`, `identity`), what they read (`inputs`, `documents`, `lines`) and where
they write (`outputs`). It promises the very lines that the Hadoop jobs print, in the order of their keys, for input of
any size within bounded memory. It reads files as they are and knows no ledger: what is announced twice is counted
twice here, as it always was. The numbers of the lake belong to `lake`.

Each job's module says its rules: what counts, and what is skipped. docs/mapreduce.md has them in one place.
"""
