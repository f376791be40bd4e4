"""The soak: runs the whole pipeline under a steady stream and random faults, and proves that nothing is lost.

`make soak MINUTES=10`, or `python -m imgpipeline_tests.soak`. It uses real servers and the real daemon, and ends with
the check of `faults.invariant`.
"""
