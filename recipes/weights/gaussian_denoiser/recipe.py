"""Gaussian denoiser: a blind 2D network for white noise of 0.5 to 12 % of the window.

A residual bias-free U-Net (Mohan et al., ICLR 2020; Zhang et al., TPAMI 2021) that is told no
level: each crop has noise of its own sigma, and without biases the network scales with its input,
so it works beyond the levels of its training, too. For noise that was added to scans; for noise
that a scanner left, `ct_denoiser` is the recipe.

    engine fit gaussian_denoiser --data ct/

`recipes/README.md` lists the scans of `ct/`, their licences, and how the folder is made.
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
    crop=Crop(shape=(1, 64, 64), central=1.0, turns=True, per="slice"),  # (Z, Y, X) voxels
    noise=Gaussian(sigma=(0.005, 0.12)),  # of the window: 7 to 168 HU
    network=BiasFreeUNet2D(widths=(24, 32, 48)),
    loss=losses.mean_absolute_error,
    learning_rate=schedules.warm_up(200, schedules.cosine(2e-3, 2e-5)),
    batch=4,
    steps=2_000_000,
    average=0.998,  # of every step
    clip_norm=1.0,
    validate_at=(0.02, 0.05, 0.10),
    validate_slices=4,
    validate_every=20_000,
    checkpoint_every=10_000,
)
