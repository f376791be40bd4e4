"""`python -m imgpipeline.lake.schema > docs/tables.md`."""

import sys

from imgpipeline.lake.schema.page import tables_page

sys.stdout.write(tables_page())
