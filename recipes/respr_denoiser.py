"""ResPr-UNet on the estimate of `gaussian_denoiser`: white noise of 1.5 to 12 %, thin slices.

Abascal et al., EUSIPCO 2020: the prior image is the estimate of a trained 2D network, here of the
blind one that ships. The 3D network sees the noisy slices beside it, and learns what the slices
above and below add to the estimate of a slice. That needs thin slices: up to 2.5 mm.

    engine fit respr_denoiser --data thin/

`recipes/weights/README.md` lists the scans of `thin/`.

Cost: 62,785 parameters and, for the prior, those of `gaussian_denoiser`; 131,072 voxels a step.
"""

from engine import Estimated, Recipe, losses, schedules
from engine.networks import ResPrUNet
from volumes import Crop, Gaussian, NeighbourMean, Split, Window

recipe = Recipe(
    split=Split(validation=("case_00011",), test=()),
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(16, 64, 64), central=1.0, turns=True),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=(0.015, 0.12)),  # of the window: 21 to 168 HU
    prior=NeighbourMean(radius=0, of=Estimated("gaussian_denoiser")),
    network=ResPrUNet(width=8, levels=3),
    loss=losses.mean_absolute_error,
    learning_rate=schedules.warm_up(100, schedules.cosine(1.5e-3, 1e-5)),
    batch=2,
    steps=9_000,
    average=0.998,  # of every step
    clip_norm=1.0,
    validate_at=(0.02, 0.05, 0.10),
    validate_every=1_000,
    checkpoint_every=500,
)
