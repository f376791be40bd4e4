"""The viewer: pages and an API over the lake, for reading (`imgpipeline serve`)."""
