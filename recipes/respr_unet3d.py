"""ResPr-UNet, 3D: Gaussian noise of 10 % of the window on KiTS19.

Abascal et al., EUSIPCO 2020. The prior image, a mean of neighbouring slices, enters twice: as a
second input channel and as the image that the network corrects. Not trained to its end here.

    engine fit respr_unet3d --data kits19/

Cost: 997,633 parameters, 4.2 million voxels a step. The reference trains 5,000 epochs on 200
patients with 2 crops a step (25 h on its GPU). Here 100,000 steps give 1,000 crops of each patient.
"""

from engine import Recipe, losses, schedules
from engine.networks import ResPrUNet
from volumes import Crop, Gaussian, NeighbourMean, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(32, 256, 256), central=0.8),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    prior=NeighbourMean(radius=4, decay=0.04),  # slices i-4 ... i+4
    network=ResPrUNet(width=32, levels=3),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=2,
    steps=100_000,
)
