"""Shipped networks: trained weights that come with the package, and their names."""

from __future__ import annotations

from pathlib import Path

from engine.errors import BadUsage

# Found as files, not imported, like the recipes: a folder of the user may be called `recipes`, too.
_WEIGHTS = Path(__file__).resolve().parents[2] / "recipes" / "weights"


def shipped_names() -> list[str]:
    """The names of the networks that ship.

    Example:
        >>> shipped_names()
        ['ct_denoiser', 'gaussian_denoiser', 'respr_denoiser']
    """
    return sorted(path.parent.name for path in _WEIGHTS.glob("*/recipe.json"))


def folder_of(name: str | Path) -> Path:
    """The run folder that a path, or the name of a network that ships, stands for.

    Raises:
        BadUsage: if the name is that of a network that ships, and of a folder here.

    Example:
        >>> folder_of("ct_denoiser").name, str(folder_of("runs/unet2d"))
        ('ct_denoiser', 'runs/unet2d')
    """
    word = str(name)
    if word not in shipped_names():
        return Path(name)
    if Path(word).exists():
        cause = "is a network that ships, and the name of a file or folder here"
        raise BadUsage(word, cause, f"Rename that one, or write {Path(word).resolve()}")
    return _WEIGHTS / word
