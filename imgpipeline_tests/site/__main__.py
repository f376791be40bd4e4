"""`python -m imgpipeline_tests.site`: see the package."""

import sys

from imgpipeline_tests.site.scenario import main

sys.exit(main())
