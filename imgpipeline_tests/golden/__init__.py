"""Whole stores as earlier releases wrote them, to be read, audited and extended by every later one."""
