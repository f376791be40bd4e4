"""The classic Hadoop Streaming jobs as commands: the same input gives the same lines, without a cluster.

The jobs `label-hour`, `label-total` and `identity` write the lines of the Hadoop jobs, in the order of their keys, from
input of any size in bounded memory. They read files and not the ledger, so a record that is in the input twice is
counted twice. docs/mapreduce.md lists what each job counts and skips.
"""
