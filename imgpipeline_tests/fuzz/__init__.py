"""Hostile input by the ten thousand: messages and images that know what is wrong with them.

`python -m imgpipeline_tests.fuzz` (or `make fuzz`) makes them from a seed, sends them through the code that a detection
run uses, and fails where an outcome is not the right one, an exception leaves the per-message border, or memory grows.
"""
