"""The tests of imgpipeline, in the order of its modules, and the real servers that they run against."""
