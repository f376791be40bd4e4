"""What imgpipeline costs, measured on real servers: `make bench`."""
