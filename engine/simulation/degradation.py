"""Degradations: added noise, low dose or sparse views, from the words of `--as`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import BadUsage
from volumes.sampling.additive_noise import AdditiveNoise
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.noise import Gaussian
from volumes.tomography.photon_noise import FULL_DOSE, Dose, dose_text
from volumes.tomography.scanner import Acquisition, Scanner
from volumes.window import Window

SCANNER = Scanner()
_REMEDY = (
    "Use gaussian:SIGMA or coloured:SIGMA, a fraction of the window such as 0.1, low_dose:PHOTONS "
    "such as 1e5, or sparse_view:VIEWS such as 60"
)


@dataclass(frozen=True)
class Degradation:
    """One degradation of a scan.

    Attributes:
        name: file name of the result, such as low_dose-1e5.
        kind: gaussian, coloured, low_dose or sparse_view.
        noise: added to the image, or the acquisition of a simulated scanner.
    """

    name: str
    kind: str
    noise: AdditiveNoise | Acquisition

    @property
    def added(self) -> AdditiveNoise | None:
        """The noise that is added to the image; None for a simulated scanner."""
        return None if isinstance(self.noise, Acquisition) else self.noise

    @property
    def acquisition(self) -> Acquisition | None:
        """The acquisition of a simulated scanner; None for added noise."""
        return self.noise if isinstance(self.noise, Acquisition) else None

    def about(self) -> dict[str, Any]:
        """Its parameters for a sidecar: with seed, case and source they determine the voxels."""
        if isinstance(self.noise, Acquisition):
            dose = asdict(self.noise.dose) if self.noise.dose else {}
            views = SCANNER.geometry.views // SCANNER.stride(self.noise)
            return {"degradation": {"kind": self.kind, "views": views, **dose}}
        sigma = self.noise.typical
        kind = {"kind": self.kind, **self.noise.about()}
        return {"degradation": kind, "sigma_hu": sigma * Window().width_hu}


def parse(text: str) -> tuple[Degradation, ...]:
    """The degradations that `--as` names, such as `low_dose:7e4,1e5,sparse_view:60`.

    A number without a kind has the kind before it. Sparse views have the photons of a full dose,
    1e6 a ray.

    Raises:
        BadUsage: if it names none, one twice, or both added noise and a simulated scanner.
    """
    found: list[Degradation] = []
    kind = ""
    for part in text.split(","):
        head, colon, value = part.partition(":")
        kind, value = (head, value) if colon or head in _EXAMPLES else (kind, head)
        try:
            found.append(_one(kind or head, value))
        except ValueError as error:
            example = f"{kind}:{_EXAMPLES[kind]}"
            raise BadUsage("--as", f"{part!r}: {error}", f"Write such as {example}") from error
    names = [degradation.name for degradation in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadUsage("--as", f"names {twice} twice", "Name each once")
    if len({degradation.acquisition is None for degradation in found}) > 1:
        cause = "names added noise and a simulated scanner; their clean references differ"
        raise BadUsage("--as", cause, "Run the command twice, with two folders")
    return tuple(found)


_EXAMPLES = {"gaussian": "0.1", "coloured": "0.05", "low_dose": "1e5", "sparse_view": "60"}


def _one(kind: str, value: str) -> Degradation:
    if kind not in _EXAMPLES:
        raise BadUsage("--as", f"names the unknown degradation {kind!r}", _REMEDY)
    if not value:
        raise BadUsage("--as", f"gives {kind} no value", f"Write such as {kind}:{_EXAMPLES[kind]}")
    if kind == "gaussian":
        return Degradation(f"gaussian-{value}", kind, Gaussian(sigma=float(value)))
    if kind == "coloured":
        return Degradation(f"coloured-{value.replace('/', '-')}", kind, Coloured.parse(value))
    if kind == "low_dose":
        acquisition = Acquisition(Dose(photons=float(value)))
        return Degradation(f"low_dose-{dose_text(float(value))}", kind, acquisition)
    acquisition = Acquisition(Dose(photons=FULL_DOSE), views=int(value))
    SCANNER.stride(acquisition)
    return Degradation(f"sparse_view-{int(value)}", kind, acquisition)
