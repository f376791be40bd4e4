"""The ledger: for every topic partition, a chain of immutable segments with the outcome of every offset.

An offset has exactly one outcome, whichever processes write or die at any moment:

* A segment is created only at the end of the chain that its writer has read, and only if its key does not exist. Of two
  writers, one wins and the other one discards its work.
* A chain starts at offset 0 and has no holes. If its log is gone, the chain is closed and the log gets the next one.
* The day index covers every segment of a day (it may cover more).
* `follow` yields each outcome after a checkpoint once, and again if a repair changes it.
"""
