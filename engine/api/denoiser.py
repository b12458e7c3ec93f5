"""A denoiser: the network of a run, loaded once and applied to many scans."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt

from engine import runtime
from engine.denoising.batch import SliceProgress
from engine.denoising.denoise import Denoised, DenoiseSettings, check_settings, second_scan
from engine.denoising.denoise_request import DenoiseRequest
from engine.denoising.denoise_scans import announced
from engine.denoising.network_choice import SCANNER, NetworkChoice
from engine.denoising.pictures import draw_planes
from engine.denoising.work import Work
from engine.errors import BadUsage
from engine.plots import Figure
from engine.recipe.recipe import Recipe
from engine.runs.run import named_run
from engine.runs.trained_model import open_model
from engine.terminal import Terminal
from volumes import nifti
from volumes.dicom import open_ct
from volumes.nifti import Scan
from volumes.nifti.read_options import ReadOptions
from volumes.volume import Shape, SpacingMm
from volumes.window import Window

if TYPE_CHECKING:
    from volumes.nifti import NiftiImage

Kind = TypeVar("Kind")
Array = npt.NDArray[Any]


class DenoiseOptions(TypedDict, total=False):
    """The options of denoising one scan; see `Denoiser.denoise`."""

    spacing_mm: SpacingMm | None
    prior: str | Path | Array | NiftiImage | None
    tile: Shape | None
    strength: float
    photons: float | None
    reproducible: bool
    strip_phi: bool
    assume_hu: bool
    poses: bool


@dataclass(frozen=True)
class DenoiseResult(Generic[Kind]):
    """A denoised scan, and what its sidecar says.

    Attributes:
        output: of the kind that was given: an array (Z, Y, X) of the same datatype, or an image of
            nibabel with the same header. For a path it is the path of the output, if one was named,
            else an image.
        facts: content of the sidecar, as plain data: versions, hashes of model and input, tiles,
            counts of voxels, the distribution of the change, warnings.
    """

    output: Kind
    facts: dict[str, Any] = field(repr=False)
    _denoised: Callable[[], Denoised] = field(repr=False)
    _window: Window = field(repr=False)

    @property
    def warnings(self) -> list[str]:
        """The warnings of the sidecar."""
        return list(self.facts["warnings"])

    @cached_property
    def hu(self) -> npt.NDArray[np.float32]:
        """(Z, Y, X) HU of the output, Z from superior to inferior."""
        scan = self._denoised().scan
        return np.ascontiguousarray(scan.canonical(scan.hu(self._denoised().after)))

    @cached_property
    def residual_hu(self) -> npt.NDArray[np.float32]:
        """(Z, Y, X) HU, input - output; 0 where the input is not finite."""
        denoised = self._denoised()
        return np.ascontiguousarray(denoised.scan.canonical(denoised.residual()))

    @cached_property
    def figure(self) -> Figure:
        """The middle planes of input, output and residual, as `denoise --preview` draws it."""
        return Figure.drawn(lambda place: draw_planes(self._denoised(), place, self._window))


class Denoiser:
    """The network of a checkpoint, loaded once. `engine.load` makes it.

    Attributes:
        run: the run folder.
        step: number of steps that it was trained for.
        recipe: of the run.
        fingerprint: SHA-256 of all variables of the checkpoint, as in sidecars.
    """

    def __init__(self, request: DenoiseRequest, terminal: Terminal) -> None:
        runtime.check(request.devices, request.precision, request.xla)
        self._model = open_model(request.run or named_run(SCANNER), request.checkpoint)
        self._request, self._terminal = request, terminal
        self._works: dict[tuple[float | None, bool], Work] = {}

    def __repr__(self) -> str:
        kind = type(self.recipe.network).__name__
        return f"<{kind} of {self.run}, step {self.step:,}, {self.fingerprint[:12]}>"

    @property
    def run(self) -> Path:  # noqa: D102 (the class says it)
        return self._model.run.folder

    @property
    def step(self) -> int:  # noqa: D102
        return self._model.step

    @property
    def recipe(self) -> Recipe:  # noqa: D102
        return self._model.recipe

    @property
    def fingerprint(self) -> str:  # noqa: D102
        return self._model.sha256

    @cached_property
    def keras(self) -> Any:
        """The Keras network in float32, with its weights.

        Its inputs are tensors (B, Z, Y, X, 1) in window units: the noisy image, and the prior or
        the dose where the network sees one.
        """
        self._start()
        return self._model.network()

    @overload
    def denoise(
        self, scan: Array, **options: Unpack[DenoiseOptions]
    ) -> DenoiseResult[Array]: ...  # fmt: skip
    @overload
    def denoise(
        self, scan: str | Path | NiftiImage, **options: Unpack[DenoiseOptions]
    ) -> DenoiseResult[NiftiImage]: ...
    def denoise(
        self,
        scan: Any,
        *,
        spacing_mm: SpacingMm | None = None,
        prior: str | Path | Array | NiftiImage | None = None,
        tile: Shape | None = None,
        strength: float = 1.0,
        photons: float | None = None,
        reproducible: bool = False,
        strip_phi: bool = False,
        assume_hu: bool = False,
        poses: bool = False,
    ) -> DenoiseResult[Any]:
        """Denoises a scan in memory. No file is written.

        The voxels are those that `engine denoise` writes of a file with the same voxels and
        header, to the bit.

        Args:
            scan: an array in HU (Z, Y, X), Z from superior to inferior, Y from anterior to
                posterior, X from the patient's right to left; a NIfTI image of nibabel; or the path
                of a NIfTI file.
            spacing_mm: of an array: distance of neighbouring voxels along (Z, Y, X).
            prior: a second scan of the same patient on the same grid, in place of the computed
                prior.
            tile: (Z, Y, X) voxels of a tile without halo.
            strength: 0 returns the input, 1 is the network's estimate.
            photons: a ray, of the scan, for a dose-aware network.
            reproducible: leave time and machine out of the facts, and use the same tiles on every
                machine.
            strip_phi: clear free text of the header.
            assume_hu: accept values that do not look like HU.
            poses: average the estimates of the turned and mirrored slices.

        Raises:
            Refusal: as `engine denoise`, in the same words.

        Example:
            >>> import engine
            >>> import numpy as np
            >>> model = engine.load("runs/unet3d", quiet=True)
            >>> noisy = np.random.default_rng(0).normal(-300, 300, (8, 32, 32)).astype(np.int16)
            >>> result = model.denoise(noisy, spacing_mm=(3.0, 0.8, 0.8))
            >>> result.output.shape, result.output.dtype.name
            ((8, 32, 32), 'int16')
            >>> result.facts["model"]["sha256"] == model.fingerprint
            True
        """
        options = ReadOptions(hu=assume_hu)
        settings = DenoiseSettings(
            None, tile, strength, photons, reproducible, strip_phi, poses=poses
        )
        source = opened(scan, spacing_mm, options)
        wanted = None if prior is None else opened(prior, spacing_mm, options)
        return self.applied(source, settings, wanted, array=is_array(scan))

    def applied(
        self, source: Scan, settings: DenoiseSettings, prior: Scan | None = None,
        choice: NetworkChoice | None = None, *, array: bool,
    ) -> DenoiseResult[Any]:  # fmt: skip
        """Denoises a scan in memory; see `denoise`.

        Args:
            source: the scan.
            settings: how.
            prior: a second scan, if that is the prior.
            choice: why this network was chosen; None if it was named.
            array: whether the output is an array.
        """
        check_settings(settings, self.recipe)
        second = second_scan(source, self.recipe, prior)
        denoised, work = self._denoised(source, second, settings, choice)
        output: Any = (
            np.ascontiguousarray(denoised.scan.canonical(denoised.after))
            if array
            else nifti.image_like(denoised.scan, denoised.after)
        )
        facts = json.loads(json.dumps(work.facts(denoised)))  # as a sidecar is read
        return DenoiseResult(output, facts, lambda: denoised, self.recipe.window)

    def _denoised(
        self,
        scan: Scan,
        second: Scan | None,
        settings: DenoiseSettings,
        choice: NetworkChoice | None,
    ) -> tuple[Denoised, Work]:
        scans = announced([scan, second] if second else [scan], self._terminal)
        self._start()
        request = replace(self._request, settings=settings)
        predictor = settings.photons, settings.poses
        if predictor not in self._works:
            self._works[predictor] = Work.begin(request, self._model, self._terminal)
        work = replace(self._works[predictor], request=request)
        work = work if choice is None else work.chosen(choice)
        with SliceProgress.of([scan.shape[0]], self._terminal) as slices:
            return work.denoise(scans, slices, lambda: None), work

    def _start(self) -> None:
        """Sets the arithmetic of inference, which a training in between may have changed."""
        asked = self._request
        runtime.start_inference(asked.devices, asked.precision, asked.xla)


def load(
    run: str | Path | None = None, *, checkpoint: str | int = "best", devices: str = "auto",
    precision: str = "auto", xla: str = "auto", run_code: bool = False,
    quiet: bool = False,
) -> Denoiser:  # fmt: skip
    """Loads the network of a run. TensorFlow is imported when it is first applied.

    Args:
        run: its folder, or the name of a network that ships; None is ct_denoiser.
        checkpoint: "best", "last" or a step.
        devices: auto, cpu, gpu or gpu:0. TensorFlow takes them once in a process.
        precision: auto (float32), float32, bfloat16 or float16.
        xla: auto, on or off.
        run_code: run the Python files that the run keeps, if they define its parts.
        quiet: show only warnings.

    Raises:
        Mismatch: if the run has no such checkpoint, or it is damaged.
        BadUsage: if an option has no such value.

    Example:
        >>> import engine
        >>> model = engine.load("runs/unet3d")
        >>> model.step, model.recipe.network
        (2, UNet3D(width=2, levels=3))
        >>> model.keras.count_params()
        3979
    """
    request = DenoiseRequest(
        (), named_run(SCANNER if run is None else run, run_code), str(checkpoint), devices=devices,
        precision=precision, xla=xla,
    )  # fmt: skip
    return Denoiser(request, Terminal(quiet=quiet, results=False))


def is_array(scan: Any) -> bool:
    """Whether a scan is neither a path nor an image of nibabel."""
    return not isinstance(scan, str | Path) and not hasattr(scan, "dataobj")


def opened(scan: Any, spacing_mm: SpacingMm | None, options: ReadOptions) -> Scan:
    """What was given, as a scan in memory.

    Raises:
        BadUsage: if the spacing is missing, or given for what has its own.
        BadInput: if it cannot be used.
    """
    if isinstance(scan, str | Path):
        _refuse_spacing(str(scan), spacing_mm)
        return open_ct(Path(scan), options).loaded()
    if not is_array(scan):
        _refuse_spacing("image", spacing_mm)
        return nifti.scan_of_image(scan, options)
    if spacing_mm is None:
        remedy = "Give the distance of voxels along (Z, Y, X) in mm"
        raise BadUsage("spacing_mm", "is missing, and an array has none of its own", remedy)
    return nifti.scan_of_array(np.asarray(scan), spacing_mm, options)


def _refuse_spacing(name: str, spacing_mm: SpacingMm | None) -> None:
    if spacing_mm is not None:
        raise BadUsage("spacing_mm", f"is given, but {name} has its own", "Leave it out")
