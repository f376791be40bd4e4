"""What imgpipeline serves by HTTP."""
