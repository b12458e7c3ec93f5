"""Own settings: the fields in which a run differs from its recipe file.

They were given on the command line, as FIELD=VALUE. run.json records them with the values of the
recipe file at that time. A resumed run keeps them, so that the command need not repeat them. A
recipe file that was edited since then differs from those values: that is a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.errors import Mismatch
from engine.recipe.foreign_parts import code_behind
from engine.recipe.recipe import Recipe
from engine.recipe.serialization import fingerprint, from_plain, plain, without_later
from engine.recipe.summary import plain_text
from engine.runs.compatibility import MAY_CHANGE
from engine.runs.record import RunRecord
from engine.runs.run import Run


class Setting(NamedTuple):
    """The values of one field, as plain JSON data."""

    file: Any
    run: Any


Settings = Mapping[str, Setting]

_MISSING = object()


def between(file: Recipe, run: Recipe) -> dict[str, Setting]:
    """The fields in which a run differs from its recipe file, by their dotted names.

    A part of another kind, such as another schedule, is one field.

    Example:
        >>> from engine.recipe.overrides import override
        >>> from engine.recipe.recipe_file import find_recipe, load_recipe
        >>> file = load_recipe(find_recipe("unet3d"))
        >>> between(file, override(file, ["network.width=4"]))
        {'network.width': Setting(file=32, run=4)}
    """
    return _apart(plain(file), plain(run), "")


def to_plain(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings, for run.json."""
    return {name: setting._asdict() for name, setting in settings.items()}


def of_run(run: Run, record: RunRecord, source: bytes, file: Recipe) -> dict[str, Setting]:
    """The own settings of the run in a folder; none if there is no run.

    Args:
        run: in the folder.
        record: of the run. Earlier versions recorded no settings: then all differences count, if
            the run's copy of the recipe file equals the file, else those that its command named.
        source: content of the recipe file of the present command.
        file: its recipe, without overrides.

    Raises:
        Mismatch: if recipe.json of such an earlier run is damaged.
    """
    whole = (run.folder / "recipe.json").exists()
    if record.own_settings is not None:
        own = {name: Setting(**values) for name, values in record.own_settings.items()}
        return own if whole or _began_with(file, own, record, run) else {}
    if not whole:
        return {}
    own = between(file, run.recipe())
    copy = run.folder / "recipe.py"
    if copy.is_file() and copy.read_bytes() == source:
        return own
    return {name: setting for name, setting in own.items() if is_named(name, record.command)}


def kept(file: Recipe, own: Settings, run: Run) -> Recipe:
    """The recipe of a file with the own settings of a run, where the file has not changed.

    Raises:
        Mismatch: if the settings do not fit the recipe.
    """
    found = plain(file)
    same = {
        name: setting.run
        for name, setting in own.items()
        if _same(_value(found, name), setting.file)
    }
    return _replaced(file, same, run)


def undone(recipe: Recipe, own: Settings, run: Run) -> Recipe:
    """The recipe of the file that a run was begun with: its recipe without its own settings.

    Raises:
        Mismatch: if the settings do not fit the recipe.
    """
    return _replaced(recipe, {name: setting.file for name, setting in own.items()}, run)


def described(recipe: Recipe, own: Settings, words: Sequence[str]) -> list[str]:
    """The own settings that a recipe has and a command does not name, as `network.width=4`.

    Args:
        recipe: that is trained.
        own: settings of the run.
        words: of the command.
    """
    found = plain(recipe)
    return [
        f"{name}={plain_text(setting.run)}"
        for name, setting in own.items()
        if _same(_value(found, name), setting.run) and not is_named(name, words)
    ]


def is_named(name: str, words: Sequence[str]) -> bool:
    """Whether words of a command set a field, a part of it or its owner.

    Example:
        >>> is_named("crop.shape", ["crop.shape=8,16,16"]), is_named("steps", ["batch=4"])
        (True, False)
    """
    fields = [word.partition("=")[0].removeprefix("--") for word in words]
    return any(f"{name}.".startswith(f"{f}.") or f"{f}.".startswith(f"{name}.") for f in fields)


def _began_with(file: Recipe, own: Settings, record: RunRecord, run: Run) -> bool:
    """Whether a run that was killed before it had a recipe.json began with this recipe file."""
    try:
        recipe = _replaced(file, {name: setting.run for name, setting in own.items()}, run)
    except Mismatch:
        return False
    return record.recipes[-1:] == [fingerprint(recipe, but=MAY_CHANGE)]


def _apart(file: Mapping[str, Any], run: Mapping[str, Any], prefix: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for name, one in file.items():
        other = run[name]
        if isinstance(one, dict) and isinstance(other, dict) and one["kind"] == other["kind"]:
            found |= _apart(one, other, f"{prefix}{name}.")
        elif one != other:
            found[f"{prefix}{name}"] = Setting(one, other)
    return found


def _value(fields: Any, name: str) -> Any:
    """The value of a dotted field; `_MISSING` where there is no such field."""
    for part in name.split("."):
        fields = fields.get(part, _MISSING) if isinstance(fields, dict) else _MISSING
    return fields


def _same(one: Any, other: Any) -> bool:
    one, other = (without_later(v) if isinstance(v, dict) else v for v in (one, other))
    return bool(one == other)


def _replaced(recipe: Recipe, values: Mapping[str, Any], run: Run) -> Recipe:
    fields = plain(recipe)
    try:
        for name, value in values.items():
            *owners, last = name.split(".")
            owner = fields
            for part in owners:
                owner = owner[part]
            owner[last] = value
        return from_plain(fields, code_behind(recipe))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        cause = f"has settings of its own that do not fit the recipe ({error})"
        remedy = "Restore the recipe file, choose another --run, or start anew with --fresh"
        raise Mismatch(run.folder, cause, remedy) from error
