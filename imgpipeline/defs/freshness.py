"""Freshness of the summaries: told when nothing keeps them up to date, and not when the cameras are off.

Owns the policy and its times. Dagster's policies know one thing, when an asset was last materialized; alone they would
fire wherever no frame comes. So the day tables are asked for once more when nothing was built for `LOOK_AGAIN_S`
(`automation.NotLookedAt`): the last built day is held against the ledger, found to be up to date, and materialized as
skipped, and what is behind it follows. Whoever sees no materialization for longer than `FRESH_WITHIN` therefore knows
that the daemon stands still, that builds fail, or that the ledger cannot be read. A check that compares with the newest
frame was the alternative; it would cost a run each time it is asked, and say no more.
"""

from datetime import timedelta

import dagster as dg

LOOK_AGAIN_S = 12 * 3600.0
"""When nothing was built for so long, the last built day is looked at again."""
FRESH_WITHIN = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=14))
"""The policy of `label_counts`."""
