"""Products: degraded files, each with a sidecar of its source and parameters."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CannotWrite
from engine.output_paths import sidecar_path
from engine.simulation.degradation import SCANNER, Degradation
from volumes import nifti
from volumes.nifti import Scan, Stored
from volumes.storage import json_files
from volumes.storage.atomic import cannot_write, whole_file


@dataclass(frozen=True)
class Product:
    """A file to make.

    Attributes:
        path: of the file.
        degradation: None for the clean reference.
        circle: whether a reference is air outside the scanner's circular field of view.
    """

    path: Path
    degradation: Degradation | None
    circle: bool = False

    def recipe(self, scan: Scan) -> dict[str, Any]:
        """The parameters that determine the voxels, beside seed, case and source."""
        if self.degradation is None:
            inside = "inside the scanner's circle, air outside" if self.circle else "everywhere"
            return {"reference": f"the source {inside}"}
        if self.degradation.acquisition is None:
            return self.degradation.about()
        scanner = {
            "geometry": SCANNER.geometry.seeing(max(scan.shape[1:])).about(),
            "mu_water_per_mm": SCANNER.mu_water_per_mm,
            "filter": SCANNER.filter,
            "spacing_mm": scan.spacing_mm,
        }
        return {**self.degradation.about(), "scanner": scanner}

    def is_finished(self, scan: Scan, key: dict[str, Any]) -> bool:
        """Whether the file exists and was made from this scan with these parameters.

        Args:
            scan: the source.
            key: seed, case and source, as in the sidecar.

        Raises:
            CannotWrite: if another file, or its sidecar, exists at the path.
        """
        if not self.path.exists() and not sidecar_path(self.path).exists():
            return False
        remedy = "Choose another -o, remove it, or use --overwrite"
        try:
            found = json_files.read_json(sidecar_path(self.path))
        except (OSError, ValueError) as error:
            raise CannotWrite(self.path, "exists without a sidecar", remedy) from error
        unset = {"source_volume": None, "source_axes": None}
        wanted = json.loads(json.dumps({**unset, **self.recipe(scan), **key}))
        for name, value in wanted.items():
            if name == "seed" and self.degradation is None:
                continue  # a reference has no noise
            if not isinstance(found, dict) or found.get(name) != value:
                raise CannotWrite(self.path, f"exists, but was made with another {name}", remedy)
        return self.path.exists()

    def write(
        self, scan: Scan, stored: Stored, about: dict[str, Any], counts: Counter[str], *,
        overwrite: bool,
    ) -> None:  # fmt: skip
        """Writes the file, then the sidecar.

        Raises:
            CannotWrite: if one exists or cannot be written.
        """
        content = {
            **self.recipe(scan),
            **about,
            "saturated_voxels": counts["saturated"],
            "voxels_at_or_below_-1500_hu": counts["like_padding"],
        }
        if counts["rays"]:
            content["rays"] = {name: counts[name] for name in ("rays", "starved", "floored")}
        if overwrite or not self.path.exists():  # no sidecar of an older file stays
            try:
                sidecar_path(self.path).unlink(missing_ok=True)
            except OSError as error:
                raise cannot_write(sidecar_path(self.path), error) from error
        nifti.write_like(scan, stored, self.path, overwrite=overwrite)
        with whole_file(sidecar_path(self.path), overwrite=overwrite) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())
