"""Expected time of denoising on this machine, measured on the first tiles of a scan."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from engine.denoising.denoise import DenoiseSettings, denoise, plan_for
from engine.inference.predictor import Predictor
from engine.inference.tiling import Blocks, Plan
from engine.networks import Network
from engine.runs.trained_model import Model
from volumes.boxes import Box
from volumes.nifti import Scan
from volumes.volume import Unit

_TILES = 3  # the first of them also waits for the compiler


@dataclass(frozen=True)
class Pace:
    """How fast scans are denoised. Writing their files is not included.

    Attributes:
        seconds_per_voxel: for a whole scan like the measured one.
    """

    seconds_per_voxel: float

    @classmethod
    def of(cls, scan: Scan, model: Model, predictor: Predictor, settings: DenoiseSettings) -> Pace:
        """Denoises a scan with few of its tiles, and scales their time by the number of tiles.

        Args:
            scan: to be measured.
            model: whose network is applied.
            predictor: of the model.
            settings: of the command.

        Raises:
            BadInput: as `engine.denoising.denoise.denoise`.
        """
        few, began_s = _FewTiles(predictor), time.perf_counter()
        denoise(scan, model, few, settings, lambda _: None)
        others_s = time.perf_counter() - began_s - sum(few.seconds)
        later_s = few.seconds[1:] or few.seconds
        count = predictor.planned(plan_for(scan, model.recipe, settings)).count
        seconds = others_s + count * sum(later_s) / len(later_s)
        return cls(seconds / math.prod(scan.shape))

    def seconds(self, scans: Sequence[Scan]) -> float:
        """The expected time of scans one after the other."""
        return self.seconds_per_voxel * sum(math.prod(scan.shape) for scan in scans)


class _FewTiles:
    """A predictor that is applied to the first tiles; the other ones come back as they are.

    Attributes:
        seconds: that each of the first tiles took.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self.seconds = predictor, list[float]()

    def beyond_halo(self, network: Network) -> float:
        """As that of the predictor."""
        return self._predictor.beyond_halo(network)

    def planned(self, plan: Plan) -> Plan:
        """As that of the predictor."""
        return self._predictor.planned(plan)

    def tiles(self, plan: Plan, noisy: Blocks, prior: Blocks | None) -> Iterator[tuple[Box, Unit]]:
        """As those of the predictor."""
        done, began_s = set(), time.perf_counter()
        for box, estimate in islice(self._predictor.tiles(plan, noisy, prior), _TILES):
            self.seconds.append(time.perf_counter() - began_s)
            done.add(box)
            yield box, estimate
            began_s = time.perf_counter()
        for tile in plan.tiles():
            if tile.keep not in done:
                yield tile.keep, noisy(tile.keep)


def in_words(seconds: float) -> str:
    """A duration, rounded as an estimate deserves.

    Example:
        >>> in_words(0.4), in_words(42.3), in_words(600), in_words(40_000)
        ('1 s', '42 s', '10 min', '11.1 h')
    """
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
