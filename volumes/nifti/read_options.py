"""Trust: what a person vouches for where a scan's file does not speak for itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trust:
    """What is taken on trust of a file; by default nothing.

    Attributes:
        hu: values that do not look like Hounsfield units are taken for them.
        checksum: a gzip stream that ends with the wrong checksum is read on.
        gib: GiB of voxels that a file may hold.
        volume: which volume of a 4D file is read, counted from 0; None where it holds one.
    """

    hu: bool = False
    checksum: bool = False
    gib: float = 4.0
    volume: int | None = None

    @property
    def most_bytes(self) -> float:
        """Bytes of voxels that a file may hold."""
        return self.gib * 2**30

    @property
    def mark(self) -> str:
        """What tells voxels that were read on trust from others of the same file; often empty."""
        volume = "" if self.volume is None else f"-volume{self.volume}"
        return volume + "-assumed" * self.hu + "-unchecked" * self.checksum


STRICT = Trust()
