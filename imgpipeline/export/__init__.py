"""Frames with their boxes for the training of models, corrected by what people said of them."""
