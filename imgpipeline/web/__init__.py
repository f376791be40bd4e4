"""HTTP servers: the ingest API and the viewer."""
