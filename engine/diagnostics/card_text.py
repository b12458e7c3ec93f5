"""Text of a card: its file, Markdown, tables for the terminal, and documents that show cards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from engine.checkpoints import checkpoint
from engine.diagnostics.card import MALFORMED, Card, applies
from engine.errors import BadUsage, Mismatch
from engine.report.markdown import grid
from engine.report.tables import Table
from engine.runs.run import Run, named_run
from engine.terminal import table_text
from volumes.errors import listed, one_line
from volumes.storage import json_files
from volumes.storage.atomic import whole_file

NAME, PICTURE = "card.json", "card.png"
NO_DIAGNOSIS = (
    "PSNR is no diagnosis: a lesion can become harder to see while PSNR rises. Research use, not a "
    "medical device."
)
_NONE = "–"  # noqa: RUF001
_PART = re.compile(r"(<!-- (card|scores) of ([^>\n]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_card(run: Run, card: Card, picture: Path | None = None) -> list[Path]:
    """Writes card.json into the run folder, and card.png if there is a picture; returns the paths.

    Args:
        run: whose card it is.
        card: from `engine.diagnostics.card.make_card`.
        picture: from `engine.diagnostics.card.picture`, with which the card was made.

    Raises:
        CannotWrite: if a file cannot be written.
    """
    contents = {NAME: (json.dumps(card, indent=1, allow_nan=False) + "\n").encode()}
    if picture is None:
        (run.folder / PICTURE).unlink(missing_ok=True)  # it may be of other weights
    else:
        contents[PICTURE] = picture.read_bytes()
    for name, content in contents.items():
        with whole_file(run.folder / name, overwrite=True) as file:
            file.write(content)
    return [run.folder / name for name in contents]


def read_card(run: Run) -> Card | None:
    """The card of a run; None if it has none.

    Raises:
        Mismatch: if it is damaged, or of weights that the run does not hold.
    """
    path, remedy = run.folder / NAME, "Write it again with `engine card`"
    if not path.exists():
        return None
    try:
        card: Card = json_files.read_json(path)
        markdown(card)
        weights = checkpoint.place(run.checkpoints, card["step"])
        fits = weights.exists() and checkpoint.fingerprint(weights) == card["sha256"]
    except (OSError, *MALFORMED) as error:
        raise Mismatch(path, f"is damaged ({error!r})", remedy) from error
    if not fits:
        raise Mismatch(path, "is of weights that the run does not hold", remedy)
    return card


def required(name: str | Path) -> Card:
    """The card of a run, which must have one.

    Raises:
        BadUsage: if it has none.
        Mismatch: as `read_card`.
    """
    card = read_card(named_run(name))
    if card is None:
        raise BadUsage(name, "has no card", "Name the reports that it is to be made of")
    return card


def markdown(card: Card) -> str:
    """The whole card."""
    sides = [f"{side}: {len(names)} ({listed(names, most=4)})"
             for side, names in card["cases"].items() if names]  # fmt: skip
    facts = {
        "Network": f"`{card['network']}`, {card['parameters']:,} parameters",
        "Noise in training": f"`{card['noise']}`",
        "Cases": "; ".join(sides) or "not recorded",
        "Licence": card["licence"] or "not stated by the recipe",
        "Weights": f"step {card['step']:,}, SHA-256 `{card['sha256']}`",
    }
    parts = [
        f"**`{card['name']}`** {one_line(card['about'])}",
        _items(f"{name}: {value}" for name, value in facts.items()),
        *(f"{one_line(table['title'])}\n\n{grid(_cells(table))}" for table in card["tables"]),
        *([_items(card["remarks"])] if card["remarks"] else []),
        f"Where it fails:\n\n{_items(card['fails'] or ['The recipe does not say.'])}",
        NO_DIAGNOSIS,
    ]
    return "\n\n".join(parts)


def plain(card: Card) -> str:
    """The short tables for the terminal, the licence, and where the network fails."""
    shown = [
        f"{one_line(table['title'])}\n{table_text('', *_cells(table))}"
        for table in card["tables"]
        if table["kind"] in ("psnr", "rmse", "characteristics")
    ]
    words = ["licence: " + one_line(card["licence"]), "where it fails:", _items(card["fails"])]
    return "\n".join([*shown, *words, NO_DIAGNOSIS])


def scores(cards: Sequence[Card]) -> str:
    """One table of PSNR and RMSE in Markdown, with the networks of several cards.

    It has the first report on added noise and the first on recorded noise.

    Raises:
        BadUsage: if the cards are not made of the same reports.
    """
    of_each = [_first(card, "psnr") + _first(card, "rmse") for card in cards]
    names = [card["name"] for card in cards]
    if len({str([(table["title"], table["columns"]) for table in found]) for found in of_each}) > 1:
        cause, remedy = "differ in cases, slices or noise", "Make them of the same reports"
        raise BadUsage(f"cards of {' and '.join(sorted(names))}", cause, remedy)
    columns: list[str] = []
    found: dict[str, dict[str, str]] = {}  # by method and column
    for table in (table for same in zip(*of_each, strict=True) for table in same):
        titles, rows = _cells(table)
        recorded = table["kind"] == "rmse"  # of which the mean alone is shown
        first, unit = (-1, "soft-tissue RMSE (HU)") if recorded else (1, "PSNR (dB)")
        shown = [f"{unit}, {'recorded' if recorded else title}" for title in titles[first:]]
        columns += [title for title in shown if title not in columns]
        for row in rows:
            found.setdefault(row[0], {}).update(zip(shown, row[first:], strict=True))

    def place(method: str) -> tuple[int, bool]:
        """Classical methods first, then each network, and below it the network with options."""
        of = next((i for i, name in enumerate(names, 1) if applies(method, name)), 0)
        return of, method not in names

    methods = sorted(found, key=place)
    content = [[method, *(found[method].get(of, _NONE) for of in columns)] for method in methods]
    measured = _items(table["title"] for table in of_each[0])
    return f"{grid((['method', *columns], content))}\n\n{measured}"


def _first(card: Card, kind: str) -> list[dict[str, Any]]:
    """The first table of a kind, if there is one."""
    return [table for table in card["tables"] if table["kind"] == kind][:1]


def renewed(text: str) -> str:
    """A Markdown document with its cards written anew.

    `<!-- card of RUN -->` and `<!-- end -->` enclose the whole card of a run, `<!-- scores of RUN
    RUN -->` and `<!-- end -->` the tables of `scores`.

    Raises:
        BadUsage: if a run has no card, or cards cannot be compared.
        Mismatch: if a card is damaged, or of other weights.
    """

    def part(found: re.Match[str]) -> str:
        cards = [required(name) for name in found[3].split()]
        shown = scores(cards) if found[2] == "scores" else markdown(cards[0])
        return f"{found[1]}\n{shown}\n\n{found[4]}"

    return _PART.sub(part, text)


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {one_line(line)}" for line in lines)


def _cells(table: dict[str, Any]) -> Table:
    digits = table["digits"]
    return table["columns"], [
        [_cell(value, many) for value, many in zip(row, digits, strict=True)]
        for row in table["rows"]
    ]


def _cell(value: Any, digits: int) -> str:
    return f"{value:z.{digits}f}" if json_files.is_number(value) else str(value or _NONE)
