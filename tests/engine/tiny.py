"""Recipes, runs and scans so small that a test takes a fraction of a second."""

import dataclasses
import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from engine.objectives import NeighbourSlices
from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.recipe.recipe_code import RecipeCode
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.recipe.serialization import read_fields, rebuilt
from engine.runs.training_run import TrainingRun
from volumes.sampling.scanner_noise import Scanned

SPACING_MM = (3.0, 0.8, 0.7)


def shrinking(name: str = "unet3d") -> list[str]:
    """The overrides that make a shipped recipe tiny."""
    recipe = load_recipe(find_recipe(name))
    smaller = {"depth": "3", "levels": "2", "width": "2", "widths": "2,3"}
    fields = [field.name for field in dataclasses.fields(recipe.network)]
    network = [f"network.{field}={smaller[field]}" for field in fields if field in smaller]
    depth = min(recipe.crop.shape[0], 8)
    scanner = []
    if isinstance(recipe.noise, Scanned):
        scanner = ["noise.scanner.geometry.views=120", "noise.scanner.geometry.bins=41"]
    alone = isinstance(recipe.objective, NeighbourSlices)
    thick = ["objective.limit_mm=9"] if alone else []  # as the slices of phantoms
    return [
        *network, *scanner, *thick, f"crop.shape={depth},16,16", "batch=2", "steps=4",
        "validate_every=4", "checkpoint_every=2", "validate_slices=4", "split.validation=1",
        "split.test=1", "learning_rate=1e-3",
    ]  # fmt: skip


def tiny(name: str = "unet3d", *more: str) -> Recipe:
    """A shipped recipe made tiny."""
    return override(load_recipe(find_recipe(name)), [*shrinking(name), *more])


def from_json(path: Path, code: RecipeCode | None = None) -> Recipe:
    """The recipe in a file that `to_json` wrote, as a run reads it."""
    return rebuilt(path, read_fields(path), code)


# -- Runs ------------------------------------------------------------------------------------------


def untrained(folder: Path, recipe: Recipe, runtime, change=None) -> TrainingRun:
    """A run that holds a network with its first weights, or with what `change` makes of them."""
    from engine.training.state import TrainingState

    arrays = TrainingState(recipe, runtime).arrays()
    run = TrainingRun(folder)
    folder.mkdir(parents=True)
    run.begin(recipe, find_recipe("unet3d"), {"cases": {}})
    checkpoint.save(run.checkpoints, change(arrays) if change else arrays, Progress(1))
    return run


def identity(arrays: checkpoint.Arrays) -> checkpoint.Arrays:
    """Weights by which a U-Net of one channel and one level returns its input, if not negative."""
    return {name: _delta(array) if "kernel" in name else array for name, array in arrays.items()}


def _delta(kernel: np.ndarray) -> np.ndarray:
    delta = np.zeros_like(kernel)
    delta[tuple(n // 2 for n in kernel.shape[:3])] = 1
    return delta


# -- Scans -----------------------------------------------------------------------------------------


def scan_file(
    path: Path, stored: np.ndarray, axes: str = "IPL", *, slope: float = 1.0, inter: float = 0.0,
    extension: bytes = b"", spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Path:  # fmt: skip
    """A NIfTI file of the stored values of (Z, Y, X), written in another order of axes.

    Made here from nibabel's header and numpy's bytes: nothing of the engine's own writer is used.
    """
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[[2, 1, 0], [0, 1, 2]] = [-step for step in spacing_mm]
    turn = ornt_transform(axcodes2ornt(tuple("IPL")), axcodes2ornt(tuple(axes)))
    turned = apply_orientation(stored, turn)
    order = ">" if stored.dtype.byteorder == ">" else "<"
    header = nib.Nifti1Header(endianness=order)
    header.set_data_shape(turned.shape)
    header.set_data_dtype(stored.dtype)
    header.set_sform(affine @ inv_ornt_aff(turn, stored.shape), 1)
    header["pixdim"][1:4] = nib.affines.voxel_sizes(header.get_sform())
    header["descrip"] = b"made for a test"
    header["scl_slope"], header["scl_inter"] = slope, inter
    header["magic"] = b"n+1"
    flag = b"\1\0\0\0" if extension else b"\0\0\0\0"
    header["vox_offset"] = 352 + len(extension)
    head = header.binaryblock + flag + extension
    block = head + turned.astype(stored.dtype).tobytes(order="F")
    path.write_bytes(gzip.compress(block, mtime=0) if path.suffix == ".gz" else block)
    return path


def comment(text: bytes, order: str = "<") -> bytes:
    """A NIfTI extension that holds a comment."""
    size = 16 * -(-(8 + len(text)) // 16)
    return (struct.pack(f"{order}ii", size, 6) + text).ljust(size, b"\0")


def content(path: Path) -> bytes:
    """The bytes of a NIfTI file, decompressed."""
    block = path.read_bytes()
    return gzip.decompress(block) if block[:2] == b"\x1f\x8b" else block


def head(path: Path) -> bytes:
    """All bytes before the first voxel."""
    block = content(path)
    order = "<" if struct.unpack_from("<i", block)[0] == 348 else ">"
    return block[: int(struct.unpack_from(f"{order}f", block, 108)[0])]


def voxels(path: Path) -> np.ndarray:
    """(Z, Y, X) stored values of a NIfTI file, read by nibabel."""
    image = nib.load(path)
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple("IPL")))
    return apply_orientation(np.asanyarray(image.dataobj.get_unscaled()), turn)
