"""`engine info`: rows that describe a scan, a run, a denoised scan or a folder of scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.checkpoints import checkpoint
from engine.diagnostics.card import Card
from engine.diagnostics.card_text import plain, read_card
from engine.diagnostics.noise_description import noise_content, noise_rows
from engine.diagnostics.run_scores import score_rows
from engine.errors import BadInput, BadUsage, Mismatch, did_you_mean
from engine.output_paths import sidecar_path
from engine.recipe.serialization import CODE
from engine.recipe.shipped_networks import shipped_names
from engine.recipe.summary import plain_text
from engine.runs import kept_code
from engine.runs.run import Run, named_run
from engine.scoring.scan_noise import ScanNoise, scan_noise
from volumes.dataset.layouts import Contents, holds_files, look
from volumes.dicom import holds_slices, open_ct
from volumes.nifti.read_options import STRICT, ReadOptions
from volumes.padding import padding
from volumes.storage import json_files

Rows = list[tuple[str, str]]

_LISTED = 5


@dataclass(frozen=True)
class Description:
    """What is known of a path.

    Attributes:
        rows: names and values.
        noise: of a scan, if it was asked for.
        card: of a run, if it has one.
        shown: the tables of the card.
    """

    rows: Rows
    noise: ScanNoise | None = None
    card: Card | None = None
    shown: str = ""

    def content(self) -> dict[str, Any]:
        """The same for JSON. A name that stands in several rows has a list of values."""
        content: dict[str, Any] = dict(self.rows)
        for name in {name for name, _ in self.rows}:
            values = [value for other, value in self.rows if other == name]
            content[name] = values if name == "warning" else values[0]
        more = {"card": self.card, "noise": self.noise and noise_content(self.noise)}
        return content | {name: value for name, value in more.items() if value is not None}


def describe(path: Path, trust: ReadOptions = STRICT, *, noise: bool = False) -> Description:
    """Describes a scan, a run or a folder of scans.

    Args:
        path: of a scan, a run or a folder of scans.
        trust: options for reading a scan.
        noise: whether the noise of a scan is measured.

    Raises:
        BadUsage: if the noise of something else than a scan is asked for.
        Mismatch: if a folder is neither a run nor one of scans.
        BadInput: if a file is not a scan, or it is not clear which scans of a folder are its cases.
    """
    if str(path) in shipped_names():
        return _run(named_run(path))
    if (meant := did_you_mean(str(path), shipped_names(), "")) and not path.exists():
        raise BadInput(path, "does not exist", meant)
    if not path.is_dir() or holds_slices(path):
        return _scan(path, trust, noise=noise)
    if noise:
        raise BadUsage("--noise", f"measures a scan, and {path} is a folder", "Name a scan")
    if (path / "recipe.json").exists() or not holds_files(path):
        return _run(Run(path))
    Run(path).refuse_part()
    return Description(_folder(look(path)))


def _folder(found: Contents) -> Rows:
    rows = [
        ("folder", str(found.folder)),
        ("layout", found.layout.name + (f", in {found.place}" if found.place else "")),
        ("cases", _named([name for name, _ in found.scans])),
        ("label maps", _named(_within(found.folder, found.labels))),
        ("outputs, not read", _named(_within(found.folder, found.outputs))),
        ("not read", _named(_within(found.folder, found.others))),
    ]
    return [(name, value) for name, value in rows if value]


def _within(folder: Path, paths: Sequence[Path]) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def _named(names: Sequence[str]) -> str:
    """The number of names, and the first of them; empty without any."""
    more = ", ..." if len(names) > _LISTED else ""
    return f"{len(names):,}: {', '.join(names[:_LISTED])}{more}" if names else ""


def _scan(path: Path, trust: ReadOptions, *, noise: bool) -> Description:
    # Values that do not look like HU are accepted: this is the command to inspect them.
    scan = open_ct(path, replace(trust, hu=True)).loaded()
    hu = scan.read_hu()
    outside = padding(hu)
    measured = hu[~outside]
    span = "none" if measured.size == 0 else f"{measured.min():.6g} to {measured.max():.6g}"
    middle = (
        [] if measured.size == 0 else [f"{p:.0f}" for p in np.percentile(measured, (1, 50, 99))]
    )
    rows = [
        ("scan", str(path)),
        ("shape (Z, Y, X)", " x ".join(map(str, scan.shape))),
        ("spacing (Z, Y, X)", " x ".join(f"{mm:.4g}" for mm in scan.spacing_mm) + " mm"),
        ("axes as stored", f"{scan.axes} {' x '.join(map(str, scan.stored_shape))}"),
        ("datatype", f"{scan.dtype.name}, slope {scan.slope:g}, intercept {scan.inter:g}"),
        ("HU", span),
        ("HU at 1, 50, 99 %", ", ".join(middle) or "none"),
        ("padding", f"{np.mean(outside):.1%} of the voxels"),
        *(("warning", odd) for odd in scan.warnings),
        *_provenance(path),
    ]
    if not noise:
        return Description(rows)
    found = scan_noise(hu, scan.spacing_mm)
    return Description([*rows, *noise_rows(found)], found)


def _provenance(path: Path) -> Rows:
    """Rows from the engine's sidecar; a file of another program gives none."""
    try:
        content = json_files.read_json(sidecar_path(path))
        if "degradation" in content:
            return [(_spaced(name), _readable(value)) for name, value in content.items()]
        network = content["recipe"]["network"]
        return [
            ("denoised by", f"{network['kind']} at step {content['model']['step']:,}"),
            ("model", content["model"]["sha256"]),
            ("input", content["input_sha256"]),
            ("strength", f"{content['strength']:g}"),
            ("precision", _precision(content["precision"])),
            ("voxels", _readable(content["voxels"])),
            ("change in HU", _readable(content["change_hu"])),
            ("notice", content["notice"]),
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _readable(value: Any) -> str:
    """A value of a sidecar in words: `total 3,145,728, changed 0`."""
    if isinstance(value, dict | list):
        named = value.items() if isinstance(value, dict) else (("", part) for part in value)
        parts = [f"{_spaced(name)} {_readable(part)}".strip() for name, part in named]
        return ", ".join(parts) or "none"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.6g}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _spaced(name: str) -> str:
    return name.replace("_hu", " HU").replace("_", " ")


def _precision(told: str | dict[str, Any]) -> str:
    """float32, or what was computed in and how far it is from float32."""
    if isinstance(told, str):
        return told
    largest, rmse = (told[f"{name}_difference_hu"] for name in ("largest", "rmse"))
    return f"{told['compute']}, {rmse:g} HU (RMSE) from float32, at most {largest:g} HU"


def _run(run: Run) -> Description:
    rows = _run_rows(run)
    try:
        card = read_card(run)
        shown = "" if card is None else plain(card)
    except Mismatch as refusal:  # the run itself is intact
        return Description([*rows, ("warning", str(refusal))])
    return Description(rows, card=card, shown=shown)


def _run_rows(run: Run) -> Rows:
    fields = run.fields()
    if CODE in fields:  # what it is made of is told without running its code
        rows, steps = _foreign(run, fields)
    else:
        recipe = run.recipe()
        steps = recipe.steps
        rows = [
            ("run", str(run.folder)),
            ("network", str(recipe.network)),
            ("noise", str(recipe.noise)),
            ("prior", str(recipe.prior)),
            ("crop", f"{recipe.crop.shape} x {recipe.examples_per_step}"),
        ]
    about = run.record().content
    rows += [(name, str(about[name])) for name in ("devices", "precision", "seed") if name in about]
    if "started_from" in about:
        before = about["started_from"]
        rows.append(("started from", f"{before.get('run')} at step {before.get('step')}"))
    found = checkpoint.steps(run.checkpoints)
    if not found:
        return [*rows, ("step", "no checkpoint yet")]
    last = checkpoint.place(run.checkpoints, found[-1])
    progress = checkpoint.verified(last)
    rows.append(("step", f"{progress.step:,} of {steps:,}"))
    if progress.best_step is not None:
        rows.append(("best", f"step {progress.best_step:,}"))
    if progress.best_score is not None:
        rows.append(("best by", f"{plain_text(fields['best_by'])} {progress.best_score:.6g}"))
    rows += score_rows(run, progress.best_step)
    return [*rows, ("fingerprint", checkpoint.fingerprint(last))]


def _foreign(run: Run, fields: Mapping[str, Any]) -> tuple[Rows, int]:
    """What a run with foreign parts says of itself, and its number of steps.

    Raises:
        Mismatch: if recipe.json is damaged, or the kept files are not those that were recorded.
    """
    code = kept_code.read(run.folder, fields[CODE])
    rows: Rows = [("run", str(run.folder))]
    try:
        rows += [(name, plain_text(fields[name])) for name in ("network", "noise", "prior")]
        crop = tuple(fields["crop"]["shape"])
        rows.append(("crop", f"{crop} x {fields['batch']}"))
        steps = int(fields["steps"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        cause, remedy = f"is no recipe ({error})", "Use the version of the engine that wrote it"
        raise Mismatch(run.folder / "recipe.json", cause, remedy) from error
    rows += [("code", f"{code.place(name)}, sha256 {code.hashes[name]}") for name in code.hashes]
    return rows, steps
