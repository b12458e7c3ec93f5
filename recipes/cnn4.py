"""Four-layer CNN on pairs of images: one noisy, one clean.

A small network: 8, 16, 8 and 4 channels, then one, all 3x3. Its authors train it on a file of 512
pairs of 128 x 128 and test it on 32 more, with the settings below. Here 32 of the 512 pairs choose
the best weights, so that the test pairs stay unseen. Grey values of any datatype are read, such as
floats in [0, 1] or bytes. Not trained to its end here.

    engine fit cnn4 --data pairs.h5

Cost: 2,737 parameters, 0.1 million voxels a step.
"""

from engine import Recipe, losses, schedules
from engine.networks import ConvNet2D
from volumes import Crop, Recorded, Split, Window

recipe = Recipe(
    split=Split(validation=32, test=("test_*",)),  # the test pairs that the file declares
    window=Window(low_hu=0, high_hu=10_000, clip=False),  # the grey scale, mapped to [0, 1]
    crop=Crop(shape=(1, 128, 128), central=1.0, flips=False),  # (Z, Y, X) pixels
    noise=Recorded(),
    network=ConvNet2D(widths=(8, 16, 8, 4), pointwise_head=False),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(3e-4),
    batch=8,
    steps=12_800,  # 200 epochs of 512 pairs
)
