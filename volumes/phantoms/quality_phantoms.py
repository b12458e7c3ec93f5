"""Quality phantoms: cross-sections of the phantoms that image quality is measured with.

They follow the published dimensions and nominal HU of commercial phantoms. They are not drawings of
them: what does not change with the reconstruction, such as wires and holders, is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from volumes.phantoms.rods import Rod, RodPhantom


def _around(
    radius_mm: float, diameter_mm: float, rods: dict[str, tuple[float, float]]
) -> tuple[Rod, ...]:
    """Rods of one diameter on a circle, by name: angle in degrees (0 right, 90 up) and HU."""
    return tuple(
        Rod(
            name,
            radius_mm * math.cos(math.radians(degrees)),
            -radius_mm * math.sin(math.radians(degrees)),
            diameter_mm,
            hu,
        )
        for name, (degrees, hu) in rods.items()
    )


# The low-contrast module of the MITA body phantom CCT189 (The Phantom Laboratory), as LCD-CT of the
# FDA defines it (github.com/DIDSR/LCD_CT, CC0): four rods on a circle of radius 40 mm in water.
CCT189 = RodPhantom(
    "CCT189",
    diameter_mm=200.0,
    rods=tuple(
        _around(40.0, diameter, {f"{diameter:g} mm, {hu:g} HU": (degrees, hu)})[0]
        for diameter, hu, degrees in ((3.0, 14.0, 45.0), (5.0, 7.0, 135.0), (7.0, 5.0, 225.0),
                                      (10.0, 3.0, 315.0))
    ),
)  # fmt: skip
CCT189_UNIFORM = RodPhantom("CCT189 uniform", diameter_mm=200.0)

# Sensitometry inserts of a Catphan's module CTP404: angles, radius and nominal HU as in pylinac
# (MIT). Two low contrasts of the CTP404 of DIDSR (+35, +15 HU) stand in free places, so that the
# resolution is also measured where denoisers blur most. A bead stands near the centre.
CTP404 = RodPhantom(
    "CTP404",
    diameter_mm=150.0,
    rods=(
        *_around(
            58.7,
            12.0,
            {
                "air": (90, -1000), "PMP": (60, -200), "LDPE": (0, -100), "polystyrene": (-60, -35),
                "acrylic": (-120, 120), "Delrin": (180, 340), "Teflon": (120, 990),
                "35 HU": (-90, 35), "15 HU": (-30, 15),
            },
        ),
        Rod("bead", 0.0, 0.0, 0.5, 3000.0),
    ),
)  # fmt: skip

# Modules 1 to 3 of the ACR phantom (Gammex 464), dimensions as in pylinac (MIT). The line pairs of
# module 4 are left out: the task transfer function says more about a denoiser.
_SOLID_WATER = 0.0
ACR_HU = RodPhantom(
    "ACR module 1",
    diameter_mm=200.0,
    rods=_around(
        63.0,
        25.0,
        {
            "bone": (135, 955),
            "air": (45, -1000),
            "acrylic": (-45, 120),
            "polyethylene": (-135, -95),
        },
    ),
    hu=_SOLID_WATER,
)
ACR_LOW_CONTRAST = RodPhantom(
    "ACR module 2",
    diameter_mm=200.0,
    rods=tuple(
        _around(60.0, diameter, {f"{diameter:g} mm, 6 HU": (degrees, 6.0)})[0]
        for diameter, degrees in ((6.0, 0.0), (5.0, 72.0), (4.0, 144.0), (3.0, 216.0), (2.0, 288.0))
    ),
    hu=_SOLID_WATER,
)
ACR_UNIFORM = RodPhantom("ACR module 3", diameter_mm=200.0, hu=_SOLID_WATER)


@dataclass(frozen=True)
class QualityPhantom:
    """The three modules that image quality is measured with.

    Attributes:
        contrast: inserts of known HU, for the task transfer function and the HU.
        low_contrast: rods that are hard to see, for detectability.
        uniform: the same body without rods, for noise, uniformity and detectability.
    """

    contrast: RodPhantom
    low_contrast: RodPhantom
    uniform: RodPhantom


QUALITY_PHANTOMS = {
    "catphan": QualityPhantom(CTP404, CCT189, CCT189_UNIFORM),
    "acr": QualityPhantom(ACR_HU, ACR_LOW_CONTRAST, ACR_UNIFORM),
}
