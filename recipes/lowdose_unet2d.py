"""Residual U-Net on low-dose CT, whole slices: 70,000 to 200,000 photons a ray.

U-Net, loss, optimizer and 50 epochs are those of a study of low-dose and sparse-view CT (QIN Lung
CT, 47 patients, 3,600 slices of 512 x 512). The study trains one network a dose (7e4, 1e5, 2e5);
here one network learns all doses. Learning rate and batch are ours. The simulator is that of T.
Humphries' group (github.com/TDHumphries/SART-ASTRA). The window is linear above 400 HU, too: the
study scores attenuation up to the densest bone, and a clipped network never returns such values.
Not trained to its end here.

    engine fit lowdose_unet2d --data kits19/

Cost: 487,921 parameters, 2.1 million voxels a step. A step also reconstructs 8 slices from 900
views, a second each on a CPU core: use a GPU. Clean sinograms take 2.6 MB a slice in the cache.
"""

from engine import Recipe, losses, schedules
from engine.networks import ResidualUNet2D
from volumes import Crop, LowDose, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400, clip=False),  # mapped to [0, 1]
    crop=Crop(shape=(1, 512, 512), central=1.0),  # (Z, Y, X) voxels
    noise=LowDose(photons=(7e4, 2e5)),  # a ray
    network=ResidualUNet2D(width=8, levels=5, normalised=True),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-3),
    batch=8,
    steps=22_500,  # 50 epochs of 3,600 slices
    validate_slices=8,
)
