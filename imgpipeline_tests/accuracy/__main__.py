"""`python -m imgpipeline_tests.accuracy` prints the table of docs/accuracy.md, from 2,000 draws for each number."""

import sys

from imgpipeline_tests.accuracy.table import coverage_table

for line in coverage_table():
    sys.stdout.write(f"{line}\n")
