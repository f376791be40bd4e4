"""The real servers of the tests: one module each, started on free loopback ports and stopped by process id.

Every server is a context manager that keeps its data and its log below the folder it was given, is ready when
`start` returns, and dies with the test process however that one dies. Pytest knows nothing of this package: the
fixtures are in `imgpipeline_tests/conftest.py`.
"""
