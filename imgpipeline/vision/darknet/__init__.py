"""Converts Darknet networks (cfg and weights) to ONNX: the yolov3-tiny and yolov4-tiny family.

Sources: AlexeyAB/darknet (`src/parser.c`, `src/*_layer.c`), the ONNX operator specifications, opset 13.
"""

from imgpipeline.vision.darknet.convert import convert_darknet

__all__ = ["convert_darknet"]
