"""3D U-Net: Gaussian noise of 10 % of the window on KiTS19.

The network that Abascal et al. (EUSIPCO 2020) compare with ResPr-UNet: the same body, no prior. Not
trained to its end here.

    engine fit unet3d --data kits19/

Cost: 996,769 parameters, 4.2 million voxels a step, the same as respr_unet3d.
"""

from engine import Recipe, losses, schedules
from engine.networks import UNet3D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(32, 256, 256), central=0.8),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=UNet3D(width=32, levels=3),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=2,
    steps=100_000,
)
