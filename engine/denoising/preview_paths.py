"""Preview paths: where the pictures of denoised scans are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import BadUsage
from engine.output_paths import beside, is_other_file, split_name
from volumes.dataset import case_name


def preview_paths(
    preview: Path, scans: Sequence[Path], outputs: Sequence[Path], *, several: bool
) -> list[Path]:
    """The picture of each scan.

    Args:
        preview: the value of `--preview`. For one scan a PNG file. For several, a name such as
            preview.png draws case_00000_preview.png beside each output, whatever its folder; a
            folder takes case_00000.png, ...
        scans: the inputs.
        outputs: the denoised scan of each.
        several: whether the command may have several scans.

    Raises:
        BadUsage: if it is the name of another file.

    Example:
        >>> scans, outputs = [Path("a.nii"), Path("b.nii")], [Path("out/a.nii"), Path("out/b.nii")]
        >>> preview_paths(Path("slice.png"), scans, outputs, several=True)
        [PosixPath('out/a_slice.png'), PosixPath('out/b_slice.png')]
    """
    png = preview.suffix.lower() == ".png" and not preview.is_dir()
    if several and png:
        names = [beside(path, f"_{preview.stem}") for path in outputs]
        return [path.with_name(f"{split_name(path)[0]}.png") for path in names]
    if several and (preview.is_dir() or not is_other_file(preview)):
        return [preview / f"{case_name(scan)}.png" for scan in scans]
    if not png and not preview.is_dir():
        raise BadUsage(preview, "is not a PNG file name", "Use a name that ends in .png")
    return [preview]
