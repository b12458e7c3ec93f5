"""ResNet, 2D: Gaussian noise of 10 % of the window on KiTS19, slice by slice.

He et al., CVPR 2016, as Abascal et al. (EUSIPCO 2020) compare it, with their 2D settings: seven
residual units at full resolution, three of 32 channels and four of 64, with batch normalisation.
Not trained to its end here.

    engine fit resnet2d --data kits19/

Cost: 337,376 parameters, all at full resolution, 4.2 million voxels a step.
"""

from engine import Recipe, losses, schedules
from engine.networks import ResNet2D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 256, 256), central=0.7),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=ResNet2D(widths=(32, 32, 32, 64, 64, 64, 64)),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=64,
    steps=100_000,  # 3,200 epochs of the reference's 2,000 slices
)
