"""DnCNN without batch normalisation: Gaussian noise of 10 % on KiTS19, slice by slice.

Zhang et al., IEEE Trans. Image Process. 26 (2017), as simplified by a study of low-dose and
sparse-view CT (QIN Lung CT, 47 patients): 17 convolutions of 64 channels with biases that learn the
noise. The study trains it on 32 x 32 patches with simulated dose and views. Here the noise and all
settings but the network are those of unet2d. Not trained to its end here.

    engine fit dncnn_plain --data kits19/

Cost: 555,137 parameters, all at full resolution: about 7 times the arithmetic of unet2d a voxel.
"""

from engine import Recipe, losses, schedules
from engine.networks import DnCNN
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=4, test=2),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 256, 256), central=0.7),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=0.10),  # of the window: 140 HU
    network=DnCNN(depth=17, width=64, normalised=False, bias=True),
    loss=losses.mean_squared_error,
    learning_rate=schedules.constant(1e-4),
    batch=64,
    steps=100_000,  # as unet2d
)
