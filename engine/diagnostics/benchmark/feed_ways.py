"""Ways to feed crops to a training: the engine's, a plain copy, and those of others.

Each is set up once, as before a training, and then delivers crops. MONAI (Cardoso et al., 2022) and
TorchIO (Pérez-García et al., Computer Methods and Programs in Biomedicine 2021) are set up as in
their tutorials, without worker processes, so that their processor time can be measured, and deliver
four crops for each volume that they load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

from engine import runtime
from engine.diagnostics.benchmark import packages
from engine.diagnostics.benchmark.feed_cases import BATCH, FeedCases, deep_enough

COPY = "plain copy into one buffer"
OURS, UNFLIPPED = "the engine's feed", "the engine's feed, without flips"
REFERENCE = "nibabel, a scan for each crop"
PACKAGES = ("torch", "monai", "torchio")
_PER_LOAD = 4


class FeedWay(NamedTuple):
    """A way to feed.

    Attributes:
        crops: that a turn delivers.
        turn: delivers them.
    """

    crops: int
    turn: Callable[[], None]


def ways(cases: FeedCases, stack: ExitStack) -> dict[str, FeedWay]:
    """All ways, as far as their packages are installed. They end with the stack."""
    many = 24
    found = {
        COPY: FeedWay(many, _copy(cases, many)),
        OURS: FeedWay(many, ours(cases, many, stack, flips=True)),
        UNFLIPPED: FeedWay(many, ours(cases, many, stack, flips=False)),
        REFERENCE: FeedWay(1, _reference(cases)),
    }
    if packages.package("monai") is not None:
        found |= {
            f"MONAI {kind}": FeedWay(2 * _PER_LOAD, _turns(_monai(cases, kind), 2 * _PER_LOAD))
            for kind in ("PersistentDataset", "CacheDataset")
        }
    if packages.package("torchio") is not None:
        found["TorchIO Queue"] = FeedWay(2 * _PER_LOAD, _turns(_torchio(cases), 2 * _PER_LOAD))
    return found


def _copy(cases: FeedCases, crops: int) -> Callable[[], None]:
    prepared = cases.prepared()
    coming = cycle(prepared)
    array, box = prepared[0]
    buffer = np.empty_like(array[box.slices], order="C")

    def turn() -> None:
        for array, box in islice(coming, crops):
            np.copyto(buffer, array[box.slices])

    return turn


def ours(cases: FeedCases, crops: int, stack: ExitStack, *, flips: bool) -> Callable[[], None]:
    """The engine's feed, up to the tensors. Its threads end with the stack."""
    from engine.training.batches import feed

    strategy, step = runtime.start("cpu").strategy, 0
    fed = stack.enter_context(feed(cases.examples(flips=flips), BATCH, strategy))

    def turn() -> None:
        nonlocal step
        for _ in fed.batches(step, step + crops // BATCH):
            step += 1

    return turn


def _reference(cases: FeedCases) -> Callable[[], None]:
    """As a loader of one line does it: decompress the scan, scale it, cut the crop."""
    import nibabel

    files, examples, i = cases.files, cases.examples(flips=False), 0

    def turn() -> None:
        nonlocal i
        scan: Any = nibabel.load(files[i % len(files)])
        image = scan.get_fdata(dtype=np.float32)
        image, box = deep_enough(image, examples[i].clean.box)
        np.ascontiguousarray(image[box.slices])
        i += 1

    return turn


def _turns(batches: Iterator[Any], crops: int) -> Callable[[], None]:
    def turn() -> None:
        done = 0
        while done < crops:
            done += len(next(batches))

    return turn


def _block(cases: FeedCases) -> tuple[int, int, int]:
    """The shape of a crop with the slices of its prior."""
    z, y, x = cases.crop.shape
    return z + 2 * cases.prior.halo, y, x


def _monai(cases: FeedCases, kind: str) -> Iterator[Any]:
    from monai import data, transforms

    block = _block(cases)
    steps = transforms.Compose([
        transforms.LoadImaged(["image"], "NibabelReader", image_only=True, dtype=np.int16),
        transforms.EnsureChannelFirstd(["image"]),
        transforms.SpatialPadd(["image"], (block[0], -1, -1), mode="reflect"),
        transforms.RandSpatialCropSamplesd(["image"], block, _PER_LOAD, random_size=False),
        *(transforms.RandFlipd(["image"], 0.5, axis) for axis in range(3)),
    ])  # fmt: skip
    listed = [{"image": str(path)} for path in cases.files]
    more = {"cache_dir": str(cases.folder / "monai")} if kind == "PersistentDataset" else {
        "progress": False, "num_workers": 1,
    }  # fmt: skip
    found = getattr(data, kind)(listed, steps, **more)
    for number in range(len(found)):  # the cache is filled before the first turn
        found[number]
    loader = data.DataLoader(found, batch_size=1, shuffle=True, num_workers=0)
    while True:
        for batch in loader:
            yield batch["image"]


def _torchio(cases: FeedCases) -> Iterator[Any]:
    import torchio

    block = _block(cases)
    subjects = [torchio.Subject(image=torchio.ScalarImage(path)) for path in cases.files]
    steps = [torchio.RandomFlip(axes=(0, 1, 2))]
    missing = max(0, block[0] - cases.depth)
    if missing:
        steps.insert(0, torchio.Pad((missing, missing, 0, 0, 0, 0), padding_mode="reflect"))
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects, transform=torchio.Compose(steps)),
        max_length=2 * _PER_LOAD, samples_per_volume=_PER_LOAD,
        sampler=torchio.UniformSampler(block), num_workers=0,
    )  # fmt: skip
    loader = torchio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0)
    while True:
        for batch in loader:
            yield batch["image"][torchio.DATA]
