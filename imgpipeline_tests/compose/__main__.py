"""`python -m imgpipeline_tests.compose`: see the package."""

import sys

from imgpipeline_tests.compose.scenario import main

sys.exit(main())
