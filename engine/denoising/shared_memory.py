"""Shared memory: how much the scans need that are read, denoised and written at the same time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from engine.denoising.denoise import DenoiseSettings, plan_for
from engine.runs.trained_model import Model
from engine.runtime import processors
from volumes.nifti import Scan
from volumes.storage import memory

_GIB = 2**30
_RESIDUAL = 2 * 4 + 2  # bytes of a voxel while its residual is written: float32, and masks


def volume_bytes(scan: Scan) -> int:
    """Bytes of a scan that is denoised: input, output and the mask of its padding."""
    return 2 * scan.nbytes + math.prod(scan.shape)


class SharedMemory:
    """Whether free memory holds up to three scans: one is read, one denoised, one written.

    Args:
        scans: in order, by their number; each with the second scan if that is the prior.
        model: whose network is applied.
        settings: how it is applied.
        residual: whether the residual is written.
    """

    def __init__(
        self, scans: Mapping[int, list[Scan]], model: Model, settings: DenoiseSettings,
        *, residual: bool,
    ) -> None:  # fmt: skip
        self._scans, self._model, self._settings = scans, model, settings
        self._residual = residual
        self._after = dict(pairwise(scans))
        self._before = {after: number for number, after in self._after.items()}

    def holds_read(self, number: int) -> bool:
        """Whether a scan may be read while the one before it, which was read, is denoised."""
        before = self._scans[self._before[number]][0]
        return self._read(number) + self._network(before) + volume_bytes(before) <= _free()

    def holds_written(self, number: int) -> bool:
        """Whether a scan may be written while the next one is denoised."""
        if number not in self._after:
            return True
        following = self._scans[self._after[number]][0]
        needed = self._network(following) + self._read(self._after[number])
        return needed + volume_bytes(following) + self._writing(number) <= _free()

    def in_words(self) -> str:
        """Whether scans are read and written while another is denoised, and what that needs."""
        needed = max(
            self._network(scan) + self._read(n) + volume_bytes(scan) + 2 * scan.nbytes
            + self._writing(n) for n, (scan, *_) in self._scans.items()
        )  # fmt: skip
        if processors() == 1:
            return "The scans are denoised one after the other: there is one processor"
        about = f"about {needed / _GIB:.2f} GiB, of {_free() / _GIB:.2f} GiB that are free"
        if needed <= _free():
            return f"The next scan is read and the last one written meanwhile: {about}"
        return f"The scans are denoised one after the other: three at once need {about}"

    def _network(self, scan: Scan) -> int:
        return plan_for(scan, self._model.recipe, self._settings).bytes

    def _read(self, number: int) -> int:
        return sum(scan.nbytes for scan in self._scans[number])

    def _writing(self, number: int) -> int:
        return math.prod(self._scans[number][0].shape) * _RESIDUAL if self._residual else 0


def _free() -> int:
    return memory.free_bytes()
