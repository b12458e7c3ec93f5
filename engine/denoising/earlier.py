"""Earlier output: what another command, finished or killed, left where a scan is to be written.

Nothing is taken for finished by its name or its time. The sidecar must say that the output was made
of this scan by this model with these settings, and the hashes of input and output must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from engine.denoising import sidecar
from engine.denoising.batch import Tally
from engine.denoising.denoise import DenoiseSettings, input_record, plan_for, second_scan
from engine.denoising.outputs import Output
from engine.errors import CannotWrite
from engine.output_paths import beside, exists, sidecar_path
from engine.runs.trained_model import Model
from engine.runtime import code_sha256
from engine.terminal import Terminal
from volumes.nifti import Scan

_THREADS = 8  # a network file system answers several questions at a time


class Earlier(Enum):
    """How far an earlier command came with one scan."""

    NOTHING = "nothing was written"
    INTERRUPTED = "killed while it wrote"
    FINISHED = "complete"
    FINISHED_BY_OTHER_CODE = "complete, by another version of the program"

    @property
    def finished(self) -> bool:
        """Whether the output is complete and as it was written."""
        return self in (Earlier.FINISHED, Earlier.FINISHED_BY_OTHER_CODE)


@dataclass(frozen=True)
class EarlierOutputs:
    """Recognises earlier output of a command's models with its settings.

    Attributes:
        models: of this command.
        origins: what a sidecar records of each.
        settings: of this command.
        precision: of this command.
        residual: whether a residual belongs to each output.
        chosen: whether the noise of each scan decides which model denoises it.
    """

    models: Sequence[Model]
    origins: list[dict[str, Any]]
    settings: DenoiseSettings
    precision: str
    residual: bool
    chosen: bool = False

    @classmethod
    def of(
        cls, models: Sequence[Model], settings: DenoiseSettings, precision: str = "auto", *,
        residual: bool, chosen: bool = False,
    ) -> EarlierOutputs:  # fmt: skip
        """Those of a command."""
        precision = sidecar.FULL_PRECISION if precision == "auto" else precision
        origins = [sidecar.origin(model) for model in models]
        return cls(models, origins, settings, precision, residual, chosen)

    def of_scans(
        self, scans: dict[int, Scan], outputs: list[Output], tally: Tally, terminal: Terminal
    ) -> dict[int, Earlier]:
        """What is left of an earlier command for each scan, by its number.

        Scans that cannot be read are left out.

        Args:
            scans: with checked headers, by their number.
            outputs: of all scans.
            tally: notes scans that cannot be read.
            terminal: shows the progress.

        Raises:
            CannotWrite: if a file exists that is not proven to be such output.
        """
        found: dict[int, Earlier] = {}
        pool = ThreadPoolExecutor(_THREADS)
        try:
            asked = {
                number: pool.submit(self.of_scan, scan, outputs[number].path)
                for number, scan in scans.items()
            }
            with terminal.progress("checking earlier output", len(asked), unit="scans") as bar:
                for done, (number, answer) in enumerate(asked.items(), 1):
                    with tally.noted(scans[number].path):
                        found[number] = answer.result()
                        if not found[number].finished:
                            outputs[number].refuse_picture()
                    bar.at(done)
        finally:
            pool.shutdown(cancel_futures=True)
        return found

    def of_scan(self, scan: Scan, path: Path) -> Earlier:
        """What is left of an earlier command for one scan.

        Args:
            scan: with a checked header.
            path: of its output.

        Raises:
            BadInput: if the scan cannot be read.
            CannotWrite: if a file exists that is not proven to be such output.
        """
        note, other = sidecar_path(path), beside(path, "_residual")
        there = [each for each in (path, note, *([other] * self.residual)) if exists(each)]
        if not there:
            return Earlier.NOTHING
        if note not in there:
            raise _exists(there[0], "and no sidecar says how it was made")
        said = sidecar.noted(note)
        if said is None:
            cause = "is not the sidecar of a denoised scan"
            raise CannotWrite(note, cause, "Choose another -o, or move it away")
        if differs := self._difference(scan, said):
            raise _exists(there[0], f"made {differs}")
        recorded = {path: said.get("output_sha256"), other: said.get("residual_sha256")}
        for each in (path, other):
            if each in there and sidecar.content(each) != recorded[each]:
                raise _exists(each, "and is not what its sidecar describes")
        if path not in there:
            return Earlier.INTERRUPTED
        if self.residual and other not in there:
            raise _exists(path, "made without its residual")
        same_code = said.get("code_sha256") == code_sha256()
        return Earlier.FINISHED if same_code else Earlier.FINISHED_BY_OTHER_CODE

    def _difference(self, scan: Scan, said: dict[str, Any]) -> str | None:
        """The first difference between a sidecar and what this command would record, in words."""
        settings, recipe, choice = self.settings, self.models[0].recipe, said.get("network_choice")
        if (choice is not None) != self.chosen:
            return _DIFFERENCES["model"]
        if isinstance(choice, dict) and choice.get("helps") is False:
            settings = replace(settings, strength=0.0)
        if ("time" not in said) != settings.reproducible:
            return f"{'without' if settings.reproducible else 'with'} --reproducible"
        if settings.reproducible or settings.tile:
            tile, tiles = plan_for(scan, recipe, settings).tile, said.get("tiles")
            if not isinstance(tiles, dict) or tiles.get("shape") != list(tile):
                return "with other tiles"
        if sidecar.precision_of(said) != self.precision:
            return "with another --precision"
        second = second_scan(scan, recipe, settings.prior)
        same = (origin for origin in self.origins if origin["model"] == said.get("model"))
        wanted = next(same, self.origins[0]) | input_record(scan, settings, second, recipe.window)
        for name in [*wanted, *(name for name in _OPTIONAL if name not in wanted)]:
            if said.get(name) != wanted.get(name):
                return _DIFFERENCES.get(name, f"with another {name}")
        return None


_OPTIONAL = ("input_axes", "photons", "poses")
_DIFFERENCES = {
    "model": "by another model",
    "recipe_sha256": "by another recipe",
    "recipe": "by another recipe",
    "input_sha256": "of another input",
    "input_volume": "of another --volume",
    "input_axes": "with other --axes",
    "second_scan_sha256": "with another --prior",
    "header": "with another --strip-phi",
    "window_hu": "by another recipe",
    "strength": "with another --strength",
    "photons": "with other --photons",
    "poses": "with another --poses",
}


def _exists(path: Path, words: str) -> CannotWrite:
    return CannotWrite(path, f"exists already, {words}", "Remove it, or ask for --overwrite")
