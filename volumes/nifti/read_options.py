"""Read options: which checks of a scan's file are relaxed, and which of its data are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a scan. By default every check is strict.

    Attributes:
        hu: accept values that do not look like Hounsfield units.
        checksum: accept a gzip stream with a wrong checksum.
        gib: the largest size of the voxels of a file, in GiB.
        volume: index of the volume in a 4D file, from 0; None if the file must hold one volume.
        axes: names of the stored axes in the order of the file, such as "ZYX"; None takes those of
            the header.

    Raises:
        ValueError: if `axes` is not a permutation of XYZ.

    Example:
        >>> ReadOptions(volume=2, hu=True).mark
        '-volume2-assumed'
        >>> STRICT.mark
        ''
    """

    hu: bool = False
    checksum: bool = False
    gib: float = 4.0
    volume: int | None = None
    axes: str | None = None

    def __post_init__(self) -> None:
        if self.axes is not None and sorted(self.axes) != ["X", "Y", "Z"]:
            raise ValueError(f"axes must name X, Y and Z once each, not {self.axes!r}")

    @property
    def most_bytes(self) -> float:
        """The largest size of the voxels of a file, in bytes."""
        return self.gib * 2**30

    @property
    def mark(self) -> str:
        """A suffix for cache keys: the options change the voxels of a file. Empty by default."""
        volume = "" if self.volume is None else f"-volume{self.volume}"
        axes = "" if self.axes is None else f"-{self.axes}"
        return volume + axes + "-assumed" * self.hu + "-unchecked" * self.checksum


STRICT = ReadOptions()
