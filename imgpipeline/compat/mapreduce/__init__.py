"""The classic Hadoop Streaming jobs as commands: the same input, the same lines, without a cluster.

`label_hour`, `label_total` and `identity` print the lines of the Hadoop jobs, in the order of their keys, from input of
any size in bounded memory. They read files and know no ledger: what is in the input twice is counted twice.
docs/mapreduce.md lists what each job counts and skips.
"""
