"""CNN7: Gaussian noise of 10 % of the window on KiTS19, slice by slice.

The deep network without pooling that Abascal et al. (EUSIPCO 2020) report, with their 2D settings:
nine layers that widen to 128 channels and narrow again, and a 1x1 head. Not trained to its end
here.

    engine fit cnn7 --data kits19/

Cost: 304,993 parameters, all at full resolution. unet2d has about as many, but most of them at a
half and a quarter of the resolution.
"""

from engine import Recipe, losses, schedules
from engine.networks import ConvNet2D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 256, 256), central=0.7),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=ConvNet2D(widths=(32, 32, 64, 64, 128, 64, 64, 64, 32)),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=64,
    steps=100_000,  # 3,200 epochs of the reference's 2,000 slices
)
