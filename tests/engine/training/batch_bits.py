"""Batches of several kinds of training, and the hashes of their bytes.

`python -m tests.engine.training.batch_bits` prints the hashes. Those in `batch_sha256.json` are of
the program before its batches were written into buffers that are used again, and before X was
mirrored on the device.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from volumes import Crop, Gaussian, NeighbourMean, Recorded
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.examples import Examples
from volumes.sampling.mixed_noise import Mixed
from volumes.volume import Volume

KNOWN = Path(__file__).with_name("batch_sha256.json")
BATCH, STEPS = 4, 6
FIELDS = ("hu", "noisy_hu", "weights", "sigma", "spectrum", "dose", "keys")  # that there were


def volume(number, shape, dtype=np.int16):
    hu = np.random.default_rng(number).integers(-1000, 1000, shape).astype(np.int16)
    noisy = (hu // 2).astype(np.int16)
    hu = (hu + 0.25).astype(dtype) if np.dtype(dtype).kind == "f" else hu
    return Volume(hu, (1.0 + number, 0.8, 0.8), f"case_{number:05d}", f"{number:064x}",
                  noisy_hu=noisy)  # fmt: skip


def kinds():
    """Examples by name. No kind computes with floating-point numbers that a processor rounds."""
    mixed = [volume(n, (depth, 29, 23)) for n, depth in enumerate((30, 9, 1, 17, 4))]
    square = [volume(n, (1, 31, 40)) for n in range(3)]
    odd = [*mixed[:2], volume(7, (12, 29, 23), np.float32)]
    prior = NeighbourMean(radius=3, decay=0.2, decay_per_mm=0.05)
    white = Gaussian((0.05, 0.2), spread="log")
    return {
        "3D with a prior": Examples(mixed, Crop((8, 16, 12), 0.8), white, prior, 1),
        "3D without flips": Examples(mixed, Crop((8, 16, 12), 0.8, flips=False), white, prior, 2),
        "3D with turns": Examples(mixed, Crop((5, 12, 12), 0.9, turns=True), white, prior, 3),
        "larger than the volume": Examples(mixed, Crop((6, 48, 48), turns=True), white, prior, 4),
        "2D": Examples(mixed, Crop((1, 12, 16), 0.7), Gaussian(0.1), None, 5),
        "photographs": Examples(square, Crop((1, 16, 16), 1.0, turns=True), white, None, 6),
        "groups of patches": Examples(mixed, Crop((1, 8, 8), patches=3), white, None, 7),
        "recorded": Examples(mixed, Crop((4, 12, 12), turns=True), Recorded(), prior, 8),
        "float32": Examples(odd, Crop((4, 12, 16)), Recorded(), prior, 9),
        "mixed noise": Examples(
            mixed, Crop((4, 12, 16)), Mixed((Gaussian(0.1), Coloured((0.05, 0.1)))), None, 10
        ),
    }  # fmt: skip


def mirrored(voxels, flags):
    """(B, Z, Y, X) voxels of a batch as the step sees them."""
    flags = np.asarray(flags)[:, None, None, None]
    return np.where(flags, voxels[..., ::-1], voxels)


def sha256(examples, strategy, *, on_device=False):
    """The SHA-256 of the datatypes, shapes and bytes of the first batches."""
    from engine.training.batches import feed

    found = hashlib.sha256()
    with feed(examples, BATCH, strategy, on_device=on_device) as fed:
        for batch in fed.batches(0, STEPS):
            for field in FIELDS:
                array = getattr(batch, field).numpy()
                if field in ("hu", "noisy_hu"):
                    array = mirrored(array, batch.mirrored)
                found.update(f"{array.dtype.str} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    from engine import runtime

    strategy = runtime.start("cpu").strategy
    print(json.dumps({name: sha256(found, strategy) for name, found in kinds().items()}, indent=1))
