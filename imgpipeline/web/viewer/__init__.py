"""The viewer: pages and an API for frames, numbers, events and alerts (`imgpipeline serve`)."""
