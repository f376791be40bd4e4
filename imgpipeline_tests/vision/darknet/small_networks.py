"""Small Darknet networks for tests, written here."""

EVERY_LAYER = """
[net]
width=96
height=64
channels=3

[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=mish

[convolutional]
batch_normalize=1
filters=16
size=3
stride=1
pad=1
groups=4
activation=leaky

[shortcut]
from=-2
activation=linear

[route]
layers=-1
groups=2
group_id=1

[convolutional]
batch_normalize=1
filters=16
size=3
stride=1
pad=1
activation=leaky

[route]
layers=-1,2

[maxpool]
size=2
stride=2

[convolutional]
batch_normalize=1
filters=32
size=3
stride=2
pad=1
activation=leaky

# as in yolov3-tiny: a window of 2 at a stride of 1 reaches over the right and lower border
[maxpool]
size=2
stride=1

[convolutional]
size=1
filters=24
activation=linear

[yolo]
mask=3,4,5
anchors=4,6, 8,8, 12,16, 20,14, 30,30, 50,40
classes=3
num=6
scale_x_y=1.1

[route]
layers=-3

[convolutional]
batch_normalize=1
filters=16
size=1
activation=mish

[upsample]
stride=2

[route]
layers=-1,6

[convolutional]
size=1
filters=24
activation=linear

[yolo]
mask=0,1,2
anchors=4,6, 8,8, 12,16, 20,14, 30,30, 50,40
classes=3
num=6
"""

ONE_CONVOLUTION = """
[net]
width=32
height=32
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
size=1
filters=18
activation=linear

[yolo]
mask=0,1,2
anchors=4,6, 8,8, 12,16
classes=1
"""
