"""The soak: runs the whole pipeline under a steady stream and random faults, then proves that nothing is lost or duplicated.

`make soak MINUTES=10`, or `python -m imgpipeline_tests.soak`. It uses real servers and the real daemon, and ends with
the check of `faults.invariant`.
"""
