"""Residual U-Net: Gaussian noise of 10 % of the window on KiTS19, slice by slice.

The U-Net without batch normalisation of a study of low-dose and sparse-view CT (QIN Lung CT, 47
patients): five levels of 8 to 128 channels whose output is subtracted from the input. The noise and
all settings but the network are those of unet2d. Not trained to its end here.

    engine fit unet2d_residual --data kits19/

Cost: 485,673 parameters, most of them at an eighth and a sixteenth of the resolution.
"""

from engine import Recipe, losses, schedules
from engine.networks import ResidualUNet2D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 256, 256), central=0.7),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=ResidualUNet2D(width=8, levels=5, normalised=False),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=64,
    steps=100_000,  # as unet2d
)
