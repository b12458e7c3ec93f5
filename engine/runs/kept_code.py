"""Kept code: the files of a recipe in its run folder, `code/<hash>/`, and when they may run.

A run whose parts are the engine's is data: nothing of it is executed. If its recipe's files define
parts, recipe.json names these files and their SHA-256. They are run only for a user who asks for it
with --run-code, and only if they are the files that were recorded. What runs is the bytes that were
hashed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import Mismatch
from engine.recipe.recipe_code import (
    INSTALLED,
    MOST_BYTES,
    MOST_FILES,
    RECIPE,
    RecipeCode,
    has_run,
    run_code,
    sha256_of,
)
from engine.recipe.serialization import CODE
from volumes.storage.atomic import cannot_write, make_folder, sync_folder, synced_file
from volumes.storage.regular_files import read_within

FOLDER = "code"
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*/){0,8}[A-Za-z_][A-Za-z0-9_]*\.py")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RESTORE = "Restore it, or train the run anew"


def keep(folder: Path, code: RecipeCode) -> None:
    """Writes the files of a recipe into a run folder, unless they are there.

    The folder of earlier files of the run stays.

    Raises:
        CannotWrite: if the system reports an error.
    """
    target = _place(folder, code.hashes)
    if _is_whole(folder, code):
        return
    aside = folder / f".{FOLDER}.tmp"
    try:
        make_folder(target.parent)
        for old in (aside, target):
            shutil.rmtree(old, ignore_errors=True)
        for name, content in code.files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            with synced_file(aside / name) as file:
                file.write(content)
        aside.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error


def copy(source: Path, fields: Mapping[str, Any], target: Path) -> None:
    """Copies the kept files that recipe.json names from one run folder to another.

    Raises:
        Mismatch: if they are not those that were recorded.
        CannotWrite: if the copy cannot be written.
    """
    if fields.get(CODE) is not None:
        keep(target, read(source, fields[CODE]))


def read(folder: Path, hashes: Any) -> RecipeCode:
    """The kept files of a run. Nothing is run.

    Args:
        folder: of the run.
        hashes: of the files, from recipe.json.

    Raises:
        Mismatch: if a file is missing, or is not the one that was recorded.
    """
    if not _are_hashes(hashes):
        cause = "does not name the files of its code and their SHA-256"
        raise Mismatch(folder / "recipe.json", cause, _RESTORE)
    place = _place(folder, hashes)
    files = {}
    for name in hashes:
        try:
            files[name] = read_within(folder, str(place.relative_to(folder) / name), MOST_BYTES)
        except (OSError, ValueError) as error:
            cause = f"cannot be read ({getattr(error, 'strerror', None) or error}), sha256 "
            raise Mismatch(place / name, cause + hashes[name], _RESTORE) from error
    code = RecipeCode(place / RECIPE, files)
    for name, found in code.hashes.items():
        if found != hashes[name]:
            cause = f"is not the file that the run recorded: its sha256 is {found}, not "
            raise Mismatch(place / name, cause + hashes[name], _RESTORE)
    return code


def opened(folder: Path, fields: Mapping[str, Any], *, trusted: bool) -> RecipeCode | None:
    """The code that defines the foreign parts of a run; None if all parts are the engine's.

    Args:
        folder: of the run.
        fields: of recipe.json.
        trusted: whether the user asked to run it.

    Raises:
        Mismatch: if it must not run, or is not the code that was recorded.
        BadUsage: if it fails.
    """
    hashes = fields.get(CODE)
    if hashes is None:
        return None
    code = read(folder, hashes)
    if (known := has_run(code.hashes)) is not None:
        return known  # the user named a recipe of the same bytes, or asked for it before
    if not trusted:
        others = [name for name in code.hashes if name != RECIPE]
        beside = f", and imports {', '.join(others)}" if others else ""
        cause = f"is code that the run needs (sha256 {code.hashes[RECIPE]}{beside})"
        raise Mismatch(code.path, cause, "Read it, and add --run-code if you trust it")
    run_code(code)
    return code


def differences(folder: Path, fields: Mapping[str, Any], code: RecipeCode | None) -> list[str]:
    """The files of a run that define something else than those of a recipe. Nothing is run.

    Comments, layout and the recipe itself do not count: its fields are compared as such.

    Args:
        folder: of the run.
        fields: of recipe.json.
        code: of the recipe.

    Returns:
        Such as `code.gates.py: 1a2b3c4d -> 5e6f7a8b`.

    Raises:
        Mismatch: if kept files are not those that were recorded.
    """
    if fields.get(CODE) is None or code is None:
        return []
    before = read(folder, fields[CODE])
    old, new = before.definitions(), code.definitions()
    shown = [{name: sha256[:8] for name, sha256 in each.hashes.items()} for each in (before, code)]
    return [
        f"{CODE}.{name}: {shown[0].get(name, 'none')} -> {shown[1].get(name, 'none')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _place(folder: Path, hashes: Mapping[str, str]) -> Path:
    return folder / FOLDER / sha256_of(hashes)[:16]


def _is_whole(folder: Path, code: RecipeCode) -> bool:
    try:
        read(folder, code.hashes)
    except Mismatch:
        return False
    return True


def _are_hashes(hashes: Any) -> bool:
    return (
        isinstance(hashes, dict)
        and RECIPE in hashes
        and len(hashes) <= MOST_FILES
        and all(_NAME.fullmatch(name) for name in hashes)
        and not {re.split(r"[/.]", name)[0] for name in hashes} & INSTALLED
        and all(isinstance(value, str) and _SHA256.fullmatch(value) for value in hashes.values())
    )
