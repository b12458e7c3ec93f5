"""3D ConvNet: Gaussian noise of 10 % of the window on KiTS19.

The 3D network without pooling of Abascal et al. (EUSIPCO 2020): two layers of 64 channels and a
1x1x1 head. Its receptive field is 5 voxels along each axis; that of unet3d is up to 47. Not trained
to its end here.

    engine fit convnet3d --data kits19/

Cost: 112,513 parameters, all at full resolution, 4.2 million voxels a step.
"""

from engine import Recipe, losses, schedules
from engine.networks import ConvNet3D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(32, 256, 256), central=0.8),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=ConvNet3D(widths=(64, 64)),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=2,
    steps=100_000,  # 1,000 epochs of the reference's 200 patients
)
