"""Sources of frames and the publisher that stores their images and announces them.

Start with `protocol` (what a source is) and `publisher`. `stream` and `detect` process the announced frames.
"""
