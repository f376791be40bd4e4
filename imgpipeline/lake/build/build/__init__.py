"""What is built in the lake: the contract of all derived objects."""
