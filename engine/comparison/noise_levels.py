"""Noise levels of a comparison, from the words that name them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import BadUsage
from engine.simulation.degradation import parse
from volumes.sampling.additive_noise import percent
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.noise import Gaussian, Recorded
from volumes.sampling.scanner_noise import LowDose, Scanned, SparseView

_REMEDY = "Write gaussian:0.02,0.05, coloured:0.05 or recorded:NAME"


@dataclass(frozen=True)
class Level:
    """One noise level.

    Attributes:
        label: name in tables, such as "10%".
        noise: added, simulated by a scanner, or recorded beside the clean scans.
    """

    label: str
    noise: Gaussian | Coloured | Recorded | Scanned


def added_levels(text: str) -> tuple[Level, ...]:
    """The levels that `--noise` names: `gaussian:0.02,0.1,coloured:0.05`, `recorded:quarter`.

    A value without a kind has the kind before it. A level that is named twice is scored once.

    Raises:
        BadUsage: if the text names no level.
    """
    makes = {"gaussian": _gaussian, "coloured": _coloured, "recorded": _recorded}
    found, kind = [], ""
    try:
        for part in text.split(","):
            head, colon, value = part.partition(":")
            kind, value = (head, value) if colon else (kind, head)
            found.append(makes[kind](value))
    except (KeyError, ValueError) as error:
        raise BadUsage("--noise", f"takes no {text!r}", _REMEDY) from error
    return tuple({level.label: level for level in found}.values())


def scanned_levels(text: str) -> tuple[Level, ...]:
    """The levels that `--as` names, as in `engine degrade`: `low_dose:7e4,1e5,sparse_view:60`.

    Raises:
        BadUsage: if it names no level, a level twice, or added noise.
    """
    found = []
    for degradation in parse(text):
        acquisition = degradation.acquisition
        if acquisition is None:
            raise BadUsage("--as", "names no scanner", f"Write such as --noise {text}")
        dose, views = acquisition.dose, acquisition.views
        assert dose is not None  # `parse` always sets a dose
        noise = LowDose(dose.photons) if views is None else SparseView(views, dose.photons)
        found.append(Level(degradation.name, noise))
    return tuple(found)


def _gaussian(value: str) -> Level:
    sigma = float(value)
    return Level(percent(sigma), Gaussian(sigma))


def _coloured(value: str) -> Level:
    noise = Coloured.parse(value)
    _, slash, spectrum = value.partition("/")
    return Level(f"coloured {percent(noise.typical)}{slash}{spectrum}", noise)


def _recorded(value: str) -> Level:
    return Level(value, Recorded(value))
