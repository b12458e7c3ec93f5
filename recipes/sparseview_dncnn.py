"""DnCNN on sparse-view CT, patches of 32 x 32: 60 of 900 views, 1e6 photons a ray.

DnCNN, patches, loss, optimizer and 50 epochs are those of a study of low-dose and sparse-view CT
(QIN Lung CT, 47 patients, 3,600 slices of 512 x 512). One network is trained for each number of
views (60, 90, 180: noise.views). All but the noise is as in lowdose_dncnn. Not trained to its end
here.

    engine fit sparseview_dncnn --data kits19/

Cost: 558,017 parameters, 0.13 million voxels a step. A step also reconstructs 4 slices from 60
views, 0.2 seconds each on a CPU. Clean sinograms take 0.17 MB a slice in the cache.
"""

from engine import Recipe, losses, schedules
from engine.networks import DnCNN
from volumes import Crop, SparseView, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400, clip=False),  # mapped to [0, 1]
    crop=Crop(shape=(1, 32, 32), central=0.7, patches=32),  # (Z, Y, X) voxels
    noise=SparseView(views=60),  # of 900
    network=DnCNN(depth=17, width=64),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-3),
    batch=128,
    steps=45_000,  # 50 epochs of 3,600 slices, 32 patches a slice
    validate_slices=8,
)
