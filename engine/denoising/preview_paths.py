"""Preview paths: where the pictures of denoised scans are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import BadUsage
from engine.output_paths import beside, is_other_file, split_name
from volumes.dataset import case_name


def preview_paths(
    preview: Path, scans: Sequence[Path], outputs: Sequence[Path], *, several: bool,
    ending: str = ".png",
) -> list[Path]:  # fmt: skip
    """The picture of each scan, or its page.

    Args:
        preview: the value of `--preview`. For one scan a PNG file. For several, a name such as
            preview.png draws case_00000_preview.png beside each output, whatever its folder; a
            folder takes case_00000.png, ...
        scans: the inputs.
        outputs: the denoised scan of each.
        several: whether the command may have several scans.
        ending: of their names; .html for the value of `--html`.

    Raises:
        BadUsage: if it is the name of another file.

    Example:
        >>> scans, outputs = [Path("a.nii"), Path("b.nii")], [Path("out/a.nii"), Path("out/b.nii")]
        >>> preview_paths(Path("slice.png"), scans, outputs, several=True)
        [PosixPath('out/a_slice.png'), PosixPath('out/b_slice.png')]
    """
    named = preview.suffix.lower() == ending and not preview.is_dir()
    if several and named:
        names = [beside(path, f"_{preview.stem}") for path in outputs]
        return [path.with_name(f"{split_name(path)[0]}{ending}") for path in names]
    if several and (preview.is_dir() or not is_other_file(preview)):
        return [preview / f"{case_name(scan)}{ending}" for scan in scans]
    if not named and not preview.is_dir():
        kind = {".png": "a PNG", ".html": "an HTML"}[ending]
        raise BadUsage(preview, f"is not {kind} file name", f"Use a name that ends in {ending}")
    return [preview]
