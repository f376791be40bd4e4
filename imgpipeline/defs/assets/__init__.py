"""The assets, one module per group."""
