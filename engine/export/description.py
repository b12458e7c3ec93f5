"""Description: what a program must know to apply an exported network, as plain data.

It is the metadata of an ONNX file, and `network.json` in a SavedModel. It names no path and no
person.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import __version__
from engine.denoising import sidecar
from engine.export.agreement import Sample, limit_hu
from engine.runs.trained_model import Model

_WEIGHTS = Path(__file__).resolve().parents[2] / "recipes" / "weights"
_AXES = "batch, Z (superior to inferior), Y (anterior to posterior), X (right to left), channel"


@dataclass(frozen=True)
class Check:
    """The comparison of an exported network with the engine's.

    Attributes:
        sample: the images.
        largest_difference_hu: between the two estimates.
        by: the library that applied the exported network, and its version.
    """

    sample: Sample
    largest_difference_hu: float
    by: str


def licence_of(model: Model, named: str | None) -> str:
    """The licence of a network's weights: what the user names, or that of weights that ship."""
    ships = model.run.folder.resolve().parent == _WEIGHTS
    return named or ("Apache-2.0" if ships else "not stated")


def description(model: Model, licence: str, check: Check) -> dict[str, Any]:
    """All facts about an exported network, which JSON can represent.

    Args:
        model: that was exported.
        licence: of its weights.
        check: its comparison with the engine's network.
    """
    recipe, network = model.recipe, model.recipe.network
    about = sidecar.origin(model)
    return {
        "notice": sidecar.NOTICE,
        "producer": f"respr-engine {__version__}",
        "licence": licence,
        "network": about["recipe"]["network"],
        "axes": _AXES,
        "inputs": ["noisy", *["prior"] * network.sees_prior, *["dose"] * network.sees_dose],
        "output": "estimate",
        "window_hu": [recipe.window.low_hu, recipe.window.high_hu],
        "input_bounds": list(recipe.input_bounds),
        "stride": list(network.stride),
        "radius": list(network.radius),
        "prior": about["recipe"]["prior"] if network.sees_prior else None,
        "dose": "log10(photons per ray / 1e5)" if network.sees_dose else None,
        "checked": {
            "largest_difference_hu": check.largest_difference_hu,
            "limit_hu": limit_hu(recipe.window),
            "shapes": check.sample.shapes,
            "source": check.sample.source,
            "by": check.by,
        },
        **about,
    }


def as_text(about: dict[str, Any]) -> dict[str, str]:
    """The same as the metadata of ONNX, whose values are text: JSON where a value is no text."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in about.items()
    }
