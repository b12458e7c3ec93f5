"""Gaussian denoiser: a blind 2D network for white noise of 0.5 to 12 % of the window.

A residual bias-free U-Net (Mohan et al., ICLR 2020; Zhang et al., TPAMI 2021). It does not receive
the noise level: each crop has noise of its own sigma. Without biases the output scales with the
input, so the network also works beyond the levels of its training. Use it for noise that was added
to scans, and `ct_denoiser` for the noise of a scanner.

    engine fit gaussian_denoiser --data ct/

`recipes/weights/README.md` lists the scans of `ct/`, their licences, and how to make the folder.

Cost: 877,344 parameters, most of them at a quarter and an eighth of the resolution; 39 ms a step on
one core of an AVX-512 machine, 11 hours in all. Not trained to its end here: the weights that ship
learned for 163,000 steps with `network.widths=24,32,48` and then, widened, for 160,832 more.
`engine info gaussian_denoiser` prints their scores.

Licence: Apache-2.0, as the program. The scans it learned from are public (CC BY, CC BY 3.0, CC BY
4.0, Apache-2.0); `recipes/weights/README.md` names them.

Where it fails:
- Noise of a scanner, whose grain is coarser than that of white noise: use `ct_denoiser`.
- Lung and other sharp kernels: not measured. What they enhance may be taken for noise.
- Metal: the noise in training has no streaks. Expect them to stay.
- MR and other images that are not in HU.
- Bone and metal above 400 HU, the top of the window: they keep their values and their noise.
- Noise below 0.5 % or above 12 % of the window (7 and 168 HU), which it has not seen.
"""

from engine import Recipe, losses, schedules
from engine.networks import BiasFreeUNet2D
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(
        validation=("case_00003", "case_00007", "case_00011"),
        test=("case_00016",),
    ),
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 64, 64), central=1.0, turns=True),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=(0.005, 0.12)),  # of the window: 7 to 168 HU
    network=BiasFreeUNet2D(widths=(48, 64, 96)),
    loss=losses.mean_absolute_error,
    learning_rate=schedules.warm_up(200, schedules.cosine(2e-3, 2e-5)),
    batch=4,
    steps=1_000_000,
    average=0.998,  # of every step
    clip_norm=1.0,
    validate_at=(0.02, 0.05, 0.10),
    validate_slices=4,
    validate_every=20_000,
    checkpoint_every=10_000,
)
