"""Residual U-Net on sparse-view CT, whole slices: 60 of 900 views, 1e6 photons a ray.

U-Net, loss, optimizer and 50 epochs are those of a study of low-dose and sparse-view CT (QIN Lung
CT, 47 patients, 3,600 slices of 512 x 512). One network is trained for each number of views (60,
90, 180: noise.views). All but the noise is as in lowdose_unet2d. Not trained to its end here.

    engine fit sparseview_unet2d --data kits19/

Cost: 487,921 parameters, 2.1 million voxels a step. A step also reconstructs 8 slices from 60
views, 0.2 seconds each on a CPU. Clean sinograms take 0.17 MB a slice in the cache.
"""

from engine import Recipe, losses, schedules
from engine.networks import ResidualUNet2D
from volumes import Crop, SparseView, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400, clip=False),  # mapped to [0, 1]
    crop=Crop(shape=(1, 512, 512), central=1.0),  # (Z, Y, X) voxels
    noise=SparseView(views=60),  # of 900
    network=ResidualUNet2D(width=8, levels=5, normalised=True),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-3),
    batch=8,
    steps=22_500,  # 50 epochs of 3,600 slices
    validate_slices=8,
)
