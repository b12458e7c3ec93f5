"""Residual U-Net with batch normalisation: Gaussian noise of 10 % on KiTS19, slice by slice.

The U-Net of a study of low-dose and sparse-view CT (QIN Lung CT, 47 patients): five levels of 8 to
128 channels whose output is subtracted from the input. The study trains it for 50 epochs on 3,600
whole slices with simulated dose and views. Here the noise and all settings but the network are
those of unet2d. Not trained to its end here.

    engine fit unet2d_residual_bn --data kits19/

Cost: 487,921 parameters, most of them at an eighth and a sixteenth of the resolution.
"""

from engine import Recipe, losses, schedules
from engine.networks import ResidualUNet2D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 256, 256), central=0.7),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=ResidualUNet2D(width=8, levels=5, normalised=True),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=64,
    steps=100_000,  # as unet2d
)
