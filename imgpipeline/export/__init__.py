"""Frames with their boxes for the training of models, corrected by annotations."""
