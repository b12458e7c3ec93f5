"""CT denoiser: a blind 2D network for the noise of scanners, and for white noise.

The residual bias-free U-Net of `gaussian_denoiser`, trained on other noise. A third of the crops
have white noise. Two thirds have noise with the spectrum of a reconstruction kernel, from soft to
sharp, with a grain that may be long in one direction, and stronger where the body is thick. Each
has 0.5 to 12 % of the window. White noise alone teaches little about real scans: its grain is finer
than that of filtered back-projection.

A network that learns from scans with noise of their own learns to leave such noise. So it learns in
rounds: the network of a round denoises the scans that the next one learns from. Slices are also
reduced, which averages noise.

    engine fit ct_denoiser --data ct/

`recipes/weights/README.md` lists the scans of `ct/`, their licences, how to make the folder, and
the commands of a round.

Cost: 224,544 parameters, most of them at a quarter and an eighth of the resolution; 20 ms a step on
one core of an AVX-512 machine, 5 hours in all. Not trained to its end here: the weights that ship
learned for 272,000 steps on the scans, for 40,000 on scans that a first network had denoised, and
for 70,000 on scans that the second one had denoised. `engine info ct_denoiser` prints their scores.

Licence: Apache-2.0, as the program. The scans it learned from are public (CC BY, CC BY 3.0, CC BY
4.0, Apache-2.0); `recipes/weights/README.md` names them.

Where it fails:
- Lung and other sharp kernels: what they enhance may be taken for noise. The scores on the test
  case, which has such a kernel, show it.
- Metal: the noise in training has no streaks. Expect them to stay.
- Faint texture: what an earlier round took for noise, the next one never sees.
- Very low dose: at 5e4 photons a ray the faintest rods in water become harder to see
  (`engine characterize ct_denoiser --realisations 40 --dose 5e4,1e5,2e5`).
- MR and other images that are not in HU.
- Bone and metal above 400 HU, the top of the window: they keep their values and their noise.
- Noise below 0.5 % or above 12 % of the window (7 and 168 HU), which it has not seen.
"""

from engine import Recipe, losses, schedules
from engine.networks import BiasFreeUNet2D
from volumes import Coloured, Crop, Gaussian, Mixed, Split, Window

recipe = Recipe(
    split=Split(
        validation=("case_00003", "case_00007", "case_00011"),
        test=("case_00016",),
    ),
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 64, 64), central=1.0, turns=True, scales=(0.7, 0.85, 1.0)),  # (Z, Y, X)
    noise=Mixed(
        (
            Gaussian(sigma=(0.005, 0.12)),  # of the window: 7 to 168 HU
            Coloured(
                sigma=(0.005, 0.12),
                exponent=(0.2, 1.2),
                cutoff=(0.12, 1.2),  # cycles a pixel: from soft to sharp kernels
                stretch=(1.0, 3.0),
                thickness=(0.0, 2.0),
            ),
        ),
        shares=(1.0, 2.0),
    ),
    network=BiasFreeUNet2D(widths=(24, 32, 48)),
    loss=losses.mean_absolute_error,
    learning_rate=schedules.warm_up(200, schedules.cosine(1.5e-3, 1.5e-5)),
    batch=4,
    steps=1_000_000,
    average=0.998,  # of every step
    clip_norm=1.0,
    validate_at=(0.02, 0.05, 0.10),
    validate_slices=4,
    validate_every=20_000,
    checkpoint_every=10_000,
)
