"""2D U-Net: Gaussian noise of 10 % of the window on KiTS19, slice by slice.

Ronneberger et al., MICCAI 2015, with the width and the settings of Abascal et al. (EUSIPCO 2020):
64 slices a step, cropped to 256 x 256 after a central crop of 0.7, with flips. Not trained to its
end here.

    engine fit unet2d --data kits19/

Cost: 332,641 parameters, 4.2 million voxels a step. The reference trains on 2,000 slices of 200
patients; here every slice may be drawn.
"""

from engine import Recipe, losses, schedules
from engine.networks import UNet2D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 256, 256), central=0.7),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=UNet2D(width=32, levels=3),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=64,
    steps=100_000,
)
