"""`python -m imgpipeline.lake.tables > docs/tables.md`."""

import sys

from imgpipeline.lake.tables.page import tables_page

sys.stdout.write(tables_page())
