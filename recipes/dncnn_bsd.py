"""DnCNN on photographs: Gaussian noise of 25 grey values, trained on BSD400.

Zhang et al., IEEE Trans. Image Process. 26 (2017), with the settings of its Keras port: 400 images
of 180 x 180 at four scales, patches of 40 x 40 in the eight poses of a square. The noisy image is
not clipped; estimates are clipped before they are scored. As in the port, convolutions have biases
beside the normalisation. The port cuts its patches on a grid of 10 pixels; here they are cut
anywhere.

    engine fit dncnn_bsd --data bsd400/

Cost: 558,977 parameters, 0.2 million voxels a step. Published on BSD68: PSNR 29.23 dB (29.21 the
port). Not trained to its end here.
"""

from engine import Recipe, losses, schedules
from engine.networks import DnCNN
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=12, test=0),  # images; BSD68, the test, is a folder of its own
    window=Window(low_hu=0, high_hu=255, clip=False),  # grey values, mapped to [0, 1]
    crop=Crop(  # (Z, Y, X) pixels
        shape=(1, 40, 40), central=1.0, turns=True, scales=(1.0, 0.9, 0.8, 0.7)
    ),
    noise=Gaussian(sigma=25 / 255),
    network=DnCNN(depth=17, width=64, normalised=True, bias=True),
    loss=losses.mean_squared_error,
    # A tenth after 30 of 50 epochs. An epoch of the reference: 400 images with 225 + 169 + 121 + 81
    # patches at its four scales, 1,862 full batches.
    learning_rate=schedules.piecewise((0, 1e-3), (55_860, 1e-4)),
    batch=128,
    steps=93_100,
)
