"""ResPr denoiser: a blind 3D network for white noise of 1.5 to 12 % of the window, for thin slices.

ResPr-UNet (Abascal et al., EUSIPCO 2020): the prior image is the estimate of a trained 2D network,
here of `gaussian_denoiser`. The 3D network sees the noisy slices beside it, and learns what the
slices above and below add to the estimate of a slice. That needs thin slices: up to 2.5 mm.

    engine fit respr_denoiser --data thin/

`recipes/weights/README.md` lists the scans of `thin/`.

Cost: 62,785 parameters and, for the prior, those of `gaussian_denoiser`; 131,072 voxels a step.
The weights that ship learned for 16,000 steps in two parts, each with a rate that falls to nearly
zero. `engine info respr_denoiser` prints their scores.

Licence: Apache-2.0, as the program. The scans it learned from are public (CC BY, CC BY 3.0,
Apache-2.0); `recipes/weights/README.md` names them.

Where it fails:
- Slices more than 2.5 mm apart: it has not seen them. Use `gaussian_denoiser`.
- Noise of a scanner, which is not white and which neighbouring slices may share: use
  `ct_denoiser`.
- It learned from four scans of 16 and 20 slices, and was validated on one.
- Metal: the noise in training has no streaks. Expect them to stay.
- MR and other images that are not in HU.
- Bone and metal above 400 HU, the top of the window: they keep their values and their noise.
- Noise below 1.5 % or above 12 % of the window (21 and 168 HU), which it has not seen.
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
