"""The HTTP source: applications post images, and play stored videos (`imgpipeline serve-ingest`)."""
