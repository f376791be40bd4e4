"""Quantizes a model to 8-bit integers: static, per channel, calibrated on the user's own images.

Only convolutions are quantized, because they take nearly all of a detector's time. The layers that change the scores
most stay in 32-bit floats.
"""
