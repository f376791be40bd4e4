"""The freshness policy of the summaries: it fails when nothing keeps them up to date, but not when the cameras are off.

Dagster's policies know only when an asset was last materialized, so they would also fail when no frames arrive.
Therefore the day tables are requested once more when nothing was built for `LOOK_AGAIN_S` (`automation.NotLookedAt`):
the last built day is compared with the ledger, found up to date and materialized as skipped, and its downstream assets
follow. If there is no materialization for longer than `FRESH_WITHIN`, the daemon is down, builds fail, or the ledger
cannot be read. The alternative, a check that compares with the newest frame, would cost a run each time and say no
more.
"""

from datetime import timedelta

import dagster as dg

LOOK_AGAIN_S = 12 * 3600.0
"""If nothing was built for this long, the last built day is checked again."""
FRESH_WITHIN = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=14))
"""The policy of `label_counts`."""
