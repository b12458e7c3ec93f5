"""Four-layer CNN on photographs: Gaussian noise of 25 grey values.

A small network that its authors train on pairs of 128 x 128 and try on photographs: 8, 16, 8 and 4
channels, then one, all 3x3. Here it is trained on photographs, with the noise of dncnn_bsd, and
with the authors' optimizer, batch, size and length.

    engine fit cnn4 --data bsd400/

Cost: 2,737 parameters, 0.1 million voxels a step.
"""

from engine import Recipe, losses, schedules
from engine.networks import ConvNet2D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=12, test=0),  # images; BSD68, the test, is a folder of its own
    window=Window(low_hu=0, high_hu=255, clip=False),  # grey values, mapped to [0, 1]
    crop=Crop(shape=(1, 128, 128), central=1.0),  # (Z, Y, X) pixels
    noise=Gaussian(sigma=25 / 255),
    network=ConvNet2D(widths=(8, 16, 8, 4), pointwise_head=False),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(3e-4),
    batch=8,
    steps=12_800,  # 200 epochs of 512 pairs
)
