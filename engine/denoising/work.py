"""Work: one model, loaded once, and the scans that it denoises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import runtime
from engine.denoising import sidecar
from engine.denoising.batch import SliceProgress, Tally
from engine.denoising.denoise import Denoised, denoise, plan_for
from engine.denoising.denoise_request import DenoiseRequest
from engine.denoising.network_choice import NetworkChoice, choose_network
from engine.denoising.noise_reduction import NoiseReduction
from engine.denoising.outputs import Output
from engine.denoising.pictures import draw_planes, write_page
from engine.denoising.plans import plan_in_words
from engine.denoising.writer import write
from engine.inference.predictor import Predictor
from engine.runs.metrics_file import harm
from engine.runs.trained_model import Model
from engine.runtime import Runtime
from engine.terminal import Terminal
from volumes.dataset import case_name
from volumes.nifti import Scan
from volumes.window import Window


@dataclass(frozen=True)
class Work:
    """The shared part of the scans of a command, or of a session: one model, loaded once.

    Attributes:
        choice: why this model denoises the scan at hand; None if it was named.
    """

    request: DenoiseRequest
    model: Model
    predictor: Predictor
    started: Runtime
    odd: list[str]  # warnings about the model, for the sidecars
    terminal: Terminal
    choice: NetworkChoice | None = None

    @classmethod
    def begin(cls, request: DenoiseRequest, model: Model, terminal: Terminal) -> Work:
        """Imports TensorFlow and loads the network."""
        folder = model.run.folder
        terminal.say(f"Model: {folder}, step {model.step:,}")
        harmful = harm(model.run, model.step)
        if harmful:
            terminal.warn(f"{folder}: {harmful}")
        started = runtime.start_inference(request.devices, request.precision, request.xla)
        if started.replicas > 1:
            terminal.warn(
                f"--devices {request.devices}: only the first one is used. Several compute if each "
                "has a command of its own, with a part of the scans"
            )
        predictor = predictor_of(model, request, started)
        odd = [f"the model {harmful}"] if harmful else []
        return cls(request, model, predictor, started, odd, terminal)

    def chosen(self, choice: NetworkChoice) -> Work:
        """The work on a scan for which the model was chosen."""
        request = self.request
        if not choice.helps:
            request = replace(request, settings=replace(request.settings, strength=0.0))
        return replace(self, request=request, choice=choice)

    def denoise(
        self, scans: list[Scan], slices: SliceProgress, check: Callable[[], None]
    ) -> Denoised:
        """Denoises one scan, with the second scan if that is the prior.

        Args:
            scans: the scan, and the second one if any.
            slices: shows the progress.
            check: is called after each tile.
        """
        scan, second = scans[0], scans[1] if len(scans) > 1 else None
        request = self.request
        self.terminal.detail(plan_in_words(scan, self.model, request.settings))
        tiles = self.predictor.planned(plan_for(scan, self.model.recipe, request.settings))
        with slices.scan(case_name(scan.path), scan.shape[0], tiles.count) as at:

            def tick(done: int) -> None:
                at(done)
                check()

            denoised = denoise(scan, self.model, self.predictor, request.settings, tick, second)
        if self.predictor.compiles(tiles):
            denoised.about["xla"] = True
        if denoised.rounding:
            self.terminal.say(f"{case_name(scan.path)}: {denoised.rounding}")
        return denoised

    def write(self, denoised: Denoised, output: Output, tally: Tally, *, overwrite: bool) -> None:
        """Writes the files of a scan and shows their paths."""
        scan, request, path = denoised.scan, self.request, output.path
        with tally.noted(scan.path):
            denoised.about.update(self.facts(denoised))
            # Warnings about the input and the model were shown before.
            shown = {*scan.warnings, *self.odd, *(self.choice.warnings() if self.choice else ())}
            found = tuple(words for words in denoised.about["warnings"] if words not in shown)
            for written in write(denoised, path, residual=request.residual, overwrite=overwrite):
                self.terminal.result(str(written))
            for picture in output.pictures:
                draw(denoised, output, picture, self.model.recipe.window)
                self.terminal.result(str(picture))
            self.terminal.warn_once({path: found})
            tally.done += 1

    def facts(self, denoised: Denoised) -> dict[str, Any]:
        """The content of the sidecar of a scan, without the hashes of its files."""
        about = {**denoised.about}
        warnings = [*self.odd, *about["warnings"]]
        if self.choice is not None:
            about["network_choice"] = self.choice.about()
            warnings = [*self.choice.warnings(), *warnings]
        measured = None if self.choice is None else self.choice.noise
        if (noise := NoiseReduction.of(denoised, measured)) is not None:
            about["noise_hu"] = noise.about()
            self.terminal.say(f"{case_name(denoised.scan.path)}: {noise}")
            if self.choice is None and (doubt := noise.doubt(self.model.recipe)):
                warnings.append(doubt)
        made = sidecar.made(self.started, reproducible=self.request.settings.reproducible)
        return {**about, **made, "warnings": warnings}


class Works:
    """The work with each model of a command, begun with the first scan that needs the model.

    Args:
        request: of the command.
        models: those that it chooses from; one if the command names it.
        terminal: shows messages.

    Attributes:
        begun: the work by the name of its run folder.
    """

    def __init__(self, request: DenoiseRequest, models: list[Model], terminal: Terminal) -> None:
        self._request, self._terminal = request, terminal
        self._models = {model.run.folder.name: model for model in models}
        self.begun: dict[str, Work] = {}

    def of(self, scan: Scan) -> Work:
        """The work on a scan in memory."""
        if self._request.run is not None:
            (name,) = self._models
            return self._begun(name)
        choice = choose_network(scan)
        self._terminal.say(f"{case_name(scan.path)}: {choice}")
        self._terminal.warn_once({scan.path: choice.warnings()})
        return self._begun(choice.network).chosen(choice)

    def _begun(self, name: str) -> Work:
        if name not in self.begun:
            self.begun[name] = Work.begin(self._request, self._models[name], self._terminal)
        return self.begun[name]


def draw(denoised: Denoised, output: Output, path: Path, window: Window) -> None:
    """Draws the picture or writes the page."""
    (write_page if path == output.page else draw_planes)(denoised, path, window)


def predictor_of(model: Model, request: DenoiseRequest, started: Runtime) -> Predictor:
    """The predictor of a model with the options of a command."""
    settings, precision, xla = request.settings, started.precision, started.xla
    return Predictor.of(model, settings.photons, precision=precision, xla=xla, poses=settings.poses)
