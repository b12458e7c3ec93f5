"""Scores of a run, as `engine info` shows them: those of the log at its best step."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from engine.runs.metrics_file import validation_rows
from engine.runs.run import Run

_SHOWN = (
    ("PSNR", "psnr_db", 2, " dB"), ("SSIM", "ssim", 4, ""),
    ("relative L2", "relative_l2_percent", 2, " %"), ("RMSE", "rmse_hu", 1, " HU"),
)  # fmt: skip

Means = dict[str, Any]


def score_rows(run: Run, best_step: int | None) -> list[tuple[str, str]]:
    """A row per noise level: the network's scores, beside those of the noisy scan and the prior.

    Args:
        run: of the network.
        best_step: whose validation is shown; the last one, if that step has none.
    """
    found: dict[int, dict[str, str]] = {}
    untrained: dict[str, dict[str, Means]] = {}  # by level and method; they precede the network's
    try:
        for validation, row in validation_rows(run):
            level = str(row.get("level", ""))
            if validation.method != "network":
                untrained.setdefault(level, {})[validation.method] = validation.mean
                continue
            with suppress(ValueError, TypeError, KeyError):
                words = _in_words(validation.mean, untrained.get(level, {}))
                found.setdefault(validation.step, {})[level] = words
    except OSError as error:
        return [("validation", f"metrics.jsonl cannot be read: {error.strerror or error}")]
    if not found:
        return []
    step = best_step if best_step in found else max(found)
    levels = found[step]
    mean = "validation, mean of levels" if len(levels) > 1 else "validation"
    return [
        ("validated at", f"step {step:,}"),
        *((f"validation at {name}" if name else mean, words) for name, words in levels.items()),
    ]


def _in_words(network: Means, untrained: dict[str, Means]) -> str:
    return ", ".join(
        _value(network[name], digits, f"{title} ", unit)
        + _beside({method: mean[name] for method, mean in untrained.items()}, digits)
        for title, name, digits, unit in _SHOWN
    )


def _beside(values: dict[str, float | None], digits: int) -> str:
    parts = [_value(value, digits, f"{method} ") for method, value in values.items()]
    return f" ({', '.join(parts)})" if parts else ""


def _value(value: float | None, digits: int, before: str, after: str = "") -> str:
    return f"{before}none" if value is None else f"{before}{value:.{digits}f}{after}"
