"""Provenance: what run.json records about how a run is made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from engine import runtime
from engine.recipe.recipe import Recipe
from engine.runtime import code_sha256
from engine.scoring.case_images import SCORES_VERSION
from engine.training.cases import CaseList
from volumes.volume import Volume

DECIDES_BITS = (
    "engine", "code_sha256", "tensorflow", "keras", "devices", "replicas", "onednn", "threads",
    "precision", "xla",
)  # fmt: skip


def about_cases(volumes: dict[str, list[Volume]], found: CaseList) -> dict[str, Any]:
    """The cases of each side, with the hashes of their files and of their voxels."""
    scale = found.scale()
    left_out = {"left_out": found.left_out()} if found.bad else {}
    return {
        "cases": {side: {v.case: v.sha256 for v in members} for side, members in volumes.items()},
        "voxels": {v.case: v.voxels_sha256 for v in chain(*volumes.values()) if v.voxels_sha256},
        **({"grey_values": {scale.datatype: scale.top}} if scale and scale.top else {}),
        "recordings": {v.case: v.noisy_sha256 for v in chain(*volumes.values()) if v.noisy_sha256},
        **left_out,
    }


def about_program(
    recipe: Recipe, started: runtime.Runtime, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Versions, devices, seed and command: its words, or those of the process."""
    from engine import __version__

    return {
        "engine": __version__,
        "code_sha256": code_sha256(),
        "python": sys.version.split()[0],
        **started.about,
        "replicas": started.replicas,
        "seed": recipe.seed,
        "scores": SCORES_VERSION,
        "command": [*map(_without_folders, command or ["engine", *sys.argv[1:]])],
    }


def _without_folders(word: str) -> str:
    """A word of the command. Only the last part of an absolute path: folders may name a person."""
    name, equals, value = word.rpartition("=")
    path = Path(value)
    return name + equals + (path.name if path.is_absolute() or value[:1] == "~" else value)
