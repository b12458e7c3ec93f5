"""Outputs: where the scans of a command are written, and what is refused there before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from engine.denoising import sidecar
from engine.denoising.preview_paths import preview_paths
from engine.errors import BadUsage, CannotWrite
from engine.output_paths import (
    beside,
    exists,
    is_scan_name,
    make_place,
    output_paths,
    refuse_existing,
    refuse_inputs,
    refuse_twice,
    sidecar_path,
    split_name,
)
from engine.terminal import Terminal
from volumes.dataset import case_name
from volumes.dicom import Series
from volumes.errors import listed
from volumes.nifti import Scan
from volumes.storage.atomic import make_folder

_SUFFIX, _REMOVED = "_denoised", "_residual"


class Output(NamedTuple):
    """Where one scan is written, and the pictures of it: a figure and a page."""

    path: Path
    preview: Path | None
    page: Path | None = None

    @property
    def pictures(self) -> list[Path]:
        """The picture and the page, if they are wanted."""
        return [path for path in (self.preview, self.page) if path]

    def files(self, *, residual: bool) -> list[Path]:
        """Every file that is written for the scan."""
        more = [beside(self.path, _REMOVED)] if residual else []
        return [self.path, sidecar_path(self.path), *more, *self.pictures]

    def refuse_existing(self) -> None:
        """Refuses a picture or a scan that exists.

        Raises:
            CannotWrite: naming it.
        """
        refuse_existing([self.path], overwrite=False)
        self.refuse_picture()

    def refuse_picture(self) -> None:
        """Refuses a picture that exists where the scan is still to be denoised.

        Raises:
            CannotWrite: naming it.
        """
        refuse_existing(self.pictures, overwrite=False)

    def refuse_patient(self, scan: Scan) -> None:
        """Refuses a name that identifies the patient of a DICOM series.

        Raises:
            BadUsage: naming it.
        """
        names = [path.name for path in self.files(residual=False)]
        names += [case_name(scan.path)] if self.pictures else []  # their title
        if isinstance(scan, Series) and any(map(scan.identifies, names)):
            cause = "would have a name that identifies the patient, by the fields of the series"
            raise BadUsage(self.path, cause, "Choose another name with -o")

    def refuse_others(self, *, residual: bool) -> None:
        """Refuses what not even --overwrite replaces.

        Raises:
            CannotWrite: if a folder or the file of another program has the name of an output.
        """
        refuse_existing(self.files(residual=residual), overwrite=True)
        note = sidecar_path(self.path)
        if exists(note) and not sidecar.is_sidecar(note):
            cause = "is not the sidecar of a denoised scan"
            raise CannotWrite(note, cause, "Choose another -o, or move it away")


def outputs_of(
    scans: Sequence[Path], output: Path | None, preview: Path | None, *, residual: bool,
    several: bool, page: Path | None = None,
) -> list[Output]:  # fmt: skip
    """The output of every scan of a command. What exists there is not considered.

    Args:
        scans: files.
        output: value of `-o`: a file for one scan, else a folder; None writes beside each scan.
        preview: value of `--preview`, see `engine.denoising.preview_paths`.
        residual: whether residuals are written.
        several: whether there may be several scans, as in a folder.
        page: value of `--html`, likewise.

    Raises:
        BadUsage: if the output does not suit the scans, or two outputs have the same path.
        CannotWrite: if an output is an input.
    """
    if several and len(scans) == 1 and output is not None and is_scan_name(output):
        raise BadUsage(output, "is one file for a folder", "Name a folder with -o")
    paths = output_paths(scans, output, _SUFFIX)
    pictures = [
        []
        if picture is None
        else preview_paths(picture, scans, paths, several=several, ending=ending)
        for picture, ending in ((preview, ".png"), (page, ".html"))
    ]
    outputs = [Output(*places) for places in zip_longest(paths, *pictures)]
    files = [file for each in outputs for file in each.files(residual=residual)]
    refuse_inputs(files, scans)
    refuse_twice(files)
    return outputs


def without_outputs(
    scans: Sequence[Path], output: Path | None, terminal: Terminal
) -> tuple[Path, ...]:
    """The scans without outputs of the other ones, which `*.nii.gz` finds when it is given again.

    Only what a sidecar proves to be such output is left out, with a warning.
    """
    suspects = {
        os.path.abspath(path) for path in scans if split_name(path)[0].endswith((_SUFFIX, _REMOVED))
    }
    if not suspects or (output is not None and is_scan_name(output)):
        return tuple(scans)
    made = set()
    for path in scans:
        (out,) = output_paths([path], output, _SUFFIX)
        for file, name in ((out, "output_sha256"), (beside(out, _REMOVED), "residual_sha256")):
            if os.path.abspath(file) in suspects:
                said = sidecar.noted(sidecar_path(out))
                if said is not None and said.get(name) == sidecar.content(file):
                    made.add(os.path.abspath(file))
    if made:
        named = listed(sorted(made))
        terminal.warn(f"{len(made)} outputs of this command among its scans are ignored: {named}")
    return tuple(path for path in scans if os.path.abspath(path) not in made)


def make_places(
    outputs: Sequence[Output], output: Path | None, pictures: Sequence[Path | None]
) -> None:
    """Makes the folders of `-o`, and of `--preview` and `--html`.

    Raises:
        CannotWrite: if one cannot be made, or another folder is missing.
    """
    shown = [picture for each in outputs for picture in each.pictures]
    for folder in dict.fromkeys(picture.parent for picture in shown if picture.parent in pictures):
        make_folder(folder)
    make_place(output, [*(each.path for each in outputs), *shown])
