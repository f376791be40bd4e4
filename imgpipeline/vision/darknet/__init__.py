"""Darknet networks (cfg and weights) as ONNX: the yolov3-tiny and yolov4-tiny family.

Owns reading Darknet's two files and writing the same network as ONNX. Nothing here runs a network.

Sources: AlexeyAB/darknet (`src/parser.c`, `src/*_layer.c`), the ONNX operator specifications, opset 13.
"""

from imgpipeline.vision.darknet.convert import convert_darknet

__all__ = ["convert_darknet"]
