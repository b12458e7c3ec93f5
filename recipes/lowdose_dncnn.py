"""DnCNN on low-dose CT, patches of 32 x 32: 70,000 to 200,000 photons a ray.

DnCNN, patches, loss, optimizer and 50 epochs are those of a study of low-dose and sparse-view CT
(QIN Lung CT, 47 patients, 3,600 slices of 512 x 512). The study trains one network a dose (7e4,
1e5, 2e5); here one network learns all doses. Learning rate and batch are ours. Each scanned slice
gives 32 patches, because one patch would cost as much. The window is that of lowdose_unet2d. Not
trained to its end here.

    engine fit lowdose_dncnn --data kits19/

Cost: 558,017 parameters, 0.13 million voxels a step. A step also reconstructs 4 slices from 900
views, a second each on a CPU core: use a GPU. Clean sinograms take 2.6 MB a slice in the cache.
"""

from engine import Recipe, losses, schedules
from engine.networks import DnCNN
from volumes import Crop, LowDose, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400, clip=False),  # mapped to [0, 1]
    crop=Crop(shape=(1, 32, 32), central=0.7, patches=32),  # (Z, Y, X) voxels
    noise=LowDose(photons=(7e4, 2e5)),  # a ray
    network=DnCNN(depth=17, width=64),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-3),
    batch=128,
    steps=45_000,  # 50 epochs of 3,600 slices, 32 patches a slice
    validate_slices=8,
)
