"""ResPr-UNet, 3D, on low-dose CT: 70,000 to 200,000 photons a ray.

The network and the prior of Abascal et al., EUSIPCO 2020, who trained it on Gaussian noise, with
the low doses of lowdose_unet2d. Noise of filtered back-projection is correlated within slices but
independent from slice to slice, so the mean of neighbouring slices has less noise. All but noise
and window is as in respr_unet3d. Not trained to its end here.

    engine fit lowdose_respr_unet3d --data kits19/

Cost: 997,633 parameters, 4.2 million voxels a step. A step also reconstructs up to 80 slices from
900 views, a second each on a CPU core: use a GPU. To scan once and train often, write the scans
with `engine degrade` and train on them with noise=Recorded(...). Clean sinograms take 2.6 MB a
slice in the cache.
"""

from engine import Recipe, losses, schedules
from engine.networks import ResPrUNet
from volumes import Crop, LowDose, NeighbourMean, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400, clip=False),  # mapped to [0, 1]
    crop=Crop(shape=(32, 256, 256), central=0.8),  # (Z, Y, X) voxels
    noise=LowDose(photons=(7e4, 2e5)),  # a ray
    prior=NeighbourMean(radius=4, decay=0.04),  # slices i-4 ... i+4
    network=ResPrUNet(width=32, levels=3),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=2,
    steps=100_000,
)
