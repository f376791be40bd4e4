"""Accuracy: estimates how far the detector's counts are from the truth, by what people count on drawn frames."""
