"""The classic Hadoop Streaming jobs, written for the tests from the rules alone: scripts that read stdin."""
