"""How hypothesis runs the tests of this folder."""

import hypothesis

# A busy machine is slow for a moment; the limit of pytest-timeout is enough.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")
