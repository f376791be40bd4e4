"""The detection loop turns the records of a lane into outcomes, and outcomes into segments."""
