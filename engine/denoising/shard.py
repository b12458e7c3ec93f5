"""Shard: the part of many scans that one of several machines denoises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import BadUsage
from volumes.dataset import case_name

_SHARD = re.compile(r"(?P<number>[0-9]{1,9})/(?P<count>[0-9]{1,9})")


@dataclass(frozen=True)
class Shard:
    """One of equal parts of a list of scans.

    Attributes:
        number: of this part, counted from 1.
        count: of all parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard of an option `--shard K/N`.

        Raises:
            BadUsage: if it is not one of 1/N to N/N.

        Example:
            >>> Shard.parse("3/16")
            Shard(number=3, count=16)
        """
        found = _SHARD.fullmatch(text)
        shard = cls(int(found["number"]), int(found["count"])) if found else None
        if shard is None or not 1 <= shard.number <= shard.count:
            remedy = "Use the number of a part and of all parts, such as 1/4 to 4/4"
            raise BadUsage("--shard", f"takes K/N with K from 1 to N, not {text!r}", remedy)
        return shard

    def positions(self, scans: Sequence[Path]) -> list[int]:
        """The positions of its scans in a list, in the order of the list.

        The sorted scans are dealt in turn, so that scans of one patient or scanner, which have
        similar names and sizes, are spread over the shards. The result does not depend on the
        order of the list, on the language of the system or on the files.

        Example:
            >>> scans = [Path("c.nii"), Path("a.nii"), Path("b.nii")]
            >>> Shard(1, 2).positions(scans), Shard(2, 2).positions(scans)
            ([0, 1], [2])
        """
        order = sorted(range(len(scans)), key=lambda i: (case_name(scans[i]), str(scans[i]), i))
        return sorted(order[self.number - 1 :: self.count])
