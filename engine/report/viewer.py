"""The viewer: slices of stacks in an HTML page, side by side or under a curtain, in any window."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.report.packed_slices import packed
from engine.report.results import Stack
from engine.scoring.metrics import DISPLAY_WINDOWS
from volumes.window import Window

MOST_BYTES = 15_000_000  # of a page
_STACKS_BYTES = 10_000_000  # of all packed slices; the rest is for figures
_SMALLEST = 64  # pixels of a slice that is cut
_BODY_HU, _MARGIN = -500, 8


class _Shown(NamedTuple):
    """What of a stack is in the page: indices into its slices, and a cut of them."""

    of: list[int]
    y: slice
    x: slice


def viewer(
    stacks: Mapping[str, Stack], window: Window, noisy: str = "noisy", bytes_: int = _STACKS_BYTES
) -> str:
    """The HTML of the viewer, with its slices.

    The slices are cut to the patient. If they are still too large together, slices are left out
    evenly, then each is cut about its middle. A line says what was left out.

    Args:
        stacks: by a name of each, such as the noise level. All have the same images.
        window: of the images; decides the presets and the unit.
        noisy: name of the image that others are subtracted from for their residual.
        bytes_: that all packed slices may take.

    Raises:
        ValueError: if there is no stack.
    """
    if not stacks:
        raise ValueError("a viewer needs a stack")
    content, left_out = [], []
    for name, stack in stacks.items():
        packed_stack, words = _pack(stack, bytes_ // len(stacks))
        content.append({"name": name, **packed_stack})
        left_out.append(words)
    data = {
        "unit": window.unit_name,
        "noisy": noisy,
        "presets": _presets(window),
        "low": window.shown[0],
        "high": window.shown[1],
        "stacks": content,
    }
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in dict.fromkeys(left_out) if note)
    # "<" would end the script element, whatever the names hold.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<section id="viewer" class="viewer" aria-label="Image viewer"></section>\n'
        f'<div class="left-out">{notes}</div>\n'
        f'<script type="application/json" id="viewer-data">{text}</script>'
    )


def _presets(window: Window) -> list[dict[str, Any]]:
    if window.unit_name != "HU":
        return [{"name": "whole range", "low": window.low_hu, "high": window.high_hu}]
    return [
        {"name": name.replace("_", " "), "low": level - width / 2, "high": level + width / 2}
        for name, (level, width) in sorted(
            DISPLAY_WINDOWS.items(), key=lambda item: item[0] != "soft_tissue"
        )
    ]


def _pack(stack: Stack, bytes_: int) -> tuple[dict[str, Any], str]:
    """A stack for the page, and words on what was left out."""
    whole = _about_the_patient(stack)
    middle = len(stack.numbers) // 2
    one = sum(len(packed(image[middle, whole.y, whole.x])) for image in stack.images.values())
    fit = max(int(0.95 * bytes_ / max(one, 1)), 1)
    shown = whole._replace(of=_spread(len(stack.numbers), fit))
    if one > bytes_:
        share = (0.9 * bytes_ / one) ** 0.5
        shown = shown._replace(y=_middle(whole.y, share), x=_middle(whole.x, share))
    while True:
        images = {
            name: [packed(image[i, shown.y, shown.x]) for i in shown.of]
            for name, image in stack.images.items()
        }
        size = sum(len(text) for texts in images.values() for text in texts)
        if size <= bytes_ or not (smaller := _smaller(shown, len(stack.numbers))):
            break
        shown = smaller
    content = {
        "numbers": [stack.numbers[i] for i in shown.of],
        "depth": stack.depth,
        "shape": [shown.y.stop - shown.y.start, shown.x.stop - shown.x.start],
        "start": [shown.y.start, shown.x.start],
        "spacing": list(stack.spacing_mm[1:]),
        "images": [{"name": name, "slices": texts} for name, texts in images.items()],
    }
    return content, _left_out(stack, shown)


def _smaller(shown: _Shown, count: int) -> _Shown | None:
    if len(shown.of) > 1:
        return shown._replace(of=_spread(count, max(int(0.8 * len(shown.of)), 1)))
    y, x = _middle(shown.y, 0.8), _middle(shown.x, 0.8)
    return None if (y, x) == (shown.y, shown.x) else shown._replace(y=y, x=x)


def _about_the_patient(stack: Stack) -> _Shown:
    """All slices, cut to what is denser than air in the first image, with a margin."""
    first = next(iter(stack.images.values()))
    body = np.asarray(first > _BODY_HU)
    y, x = (_cut(np.asarray(body.any(axis=axes))) for axes in ((0, 2), (0, 1)))
    return _Shown(list(range(len(stack.numbers))), y, x)


def _cut(inside: npt.NDArray[np.bool_]) -> slice:
    """From the first to the last place that is inside, with a margin; all if none is."""
    found = np.flatnonzero(inside)
    if not found.size:
        return slice(0, inside.size)
    first, last = int(found[0]) - _MARGIN, int(found[-1]) + _MARGIN
    return slice(max(first, 0), min(last + 1, inside.size))


def _spread(count: int, most: int) -> list[int]:
    """Evenly spread indices, the middle one among them."""
    step = -(-count // most)
    return list(range(count // 2 % step, count, step))


def _middle(cut: slice, share: float) -> slice:
    size = cut.stop - cut.start
    length = min(max(int(size * share), _SMALLEST), size)
    first = cut.start + (size - length) // 2
    return slice(first, first + length)


def _left_out(stack: Stack, shown: _Shown) -> str:
    height, width = next(iter(stack.images.values())).shape[1:]
    y, x = shown.y, shown.x
    parts = []
    if len(shown.of) < stack.depth:
        parts.append(f"{len(shown.of)} of {stack.depth} slices")
    if (y.stop - y.start, x.stop - x.start) != (height, width):
        parts.append(
            f"rows {y.start} to {y.stop - 1} of {height} and columns {x.start} to {x.stop - 1} "
            f"of {width}"
        )
    values = "values rounded to whole numbers"
    return f"This page holds {', '.join([*parts, values])}."
