"""Reports without their pictures, which take most of the time of a comparison."""

import pytest


def leave_out_pictures(patch: pytest.MonkeyPatch) -> None:
    """Each picture of a report becomes an empty file."""
    for name in ("slices", "closeups", "boxes", "levels", "noise_power"):
        patch.setattr(f"engine.report.figures.{name}", lambda path, *rest: path.write_bytes(b""))
