"""2D U-Net trained on noisy scans alone: no clean scans and no added noise.

The targets of a slice are the slices two above and two below it, which show nearly the same anatomy
with other noise (Noise2Sim: Niu et al., IEEE Trans. Med. Imaging 2022). Directly neighbouring
slices are no targets: on most scanners they share noise, which the network would keep. `fit` warns
if slices two apart still do. Thick slices are refused. Scores are differences from the slices two
above and two below. Not trained to its end here.

    engine fit selfsupervised_unet2d --data my_scans/ --from recipes/weights/ct_denoiser

It has the network of `ct_denoiser`, whose weights are a much better start than random ones. The
rate is lower than there: at 2e-3 a network that starts at random stops learning on scans with
little noise, and returns them unchanged.

Cost: 224,544 parameters, 16,384 voxels a step. The training ends early when ten validations in a
row bring no better score.
"""

from engine import Recipe, losses, objectives, schedules
from engine.networks import BiasFreeUNet2D
from volumes import AsScanned, Crop, Split, Window

recipe = Recipe(
    split=Split(validation=1, test=0),  # patients
    window=Window(low_hu=-1000, high_hu=400),  # mapped to [0, 1]
    crop=Crop(shape=(1, 64, 64), central=0.8, turns=True),  # (Z, Y, X) voxels
    noise=AsScanned(apart=2),  # slices
    network=BiasFreeUNet2D(widths=(24, 32, 48)),
    loss=losses.mean_squared_error,
    objective=objectives.NeighbourSlices(nearest=2, farthest=2),  # slices
    learning_rate=schedules.warm_up(200, schedules.cosine(3e-4, 3e-6)),
    batch=4,
    steps=100_000,
    average=0.998,  # of every step
    clip_norm=1.0,
    validate_slices=16,
    patience=10,  # validations
)
