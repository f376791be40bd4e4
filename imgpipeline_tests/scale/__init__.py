"""The scale test: a backlog of frames and a backfill of days on two Celery workers, of which parts are killed.

`make scale-test`, or `python -m imgpipeline_tests.scale --frames 20000 --days 60`. It uses real servers, and ends with
the audit that users have and a walk over the ledger of its own.
"""
