"""`engine card`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.options import Debug, Which


@app.command()
def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or the name of a "
                                        "network that ships.", readable=False)],
    reports: Annotated[
        list[Path] | None, typer.Argument(metavar="[REPORT]...", readable=False, help="Folders "
                                          "that evaluate or characterize wrote with -o.")
    ] = None,
    checkpoint: Which = "best",
    drawn: Annotated[
        Path | None,
        typer.Option("--picture", metavar="REPORT", readable=False, help="The report whose "
                     "picture the card has. Default: the first that has one."),
    ] = None,
    renew: Annotated[
        list[Path] | None,
        typer.Option("--renew", metavar="FILE", help="Also write the "
                     "cards in a Markdown file anew, each between <!-- card of RUN --> and "
                     "<!-- end -->."),
    ] = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Write card.json and card.png into RUN, from REPORTs, and print the card as Markdown.

    Without a REPORT the card that RUN has is printed.
    """
    from engine.diagnostics.card import make_card, picture
    from engine.diagnostics.card_text import markdown, renewed, required, write_card
    from engine.errors import BadUsage
    from engine.runs.run import named_run
    from engine.terminal import Terminal
    from volumes.storage.atomic import whole_file

    terminal = Terminal()
    if reports:
        named = named_run(run)
        pictured = picture(reports if drawn is None else [drawn])
        made = make_card(named, checkpoint, reports, pictured)
        for path in write_card(named, made, pictured):
            terminal.say(f"written: {path}")
    terminal.result(markdown(required(run)))
    for path in renew or []:
        if not path.is_file():
            raise BadUsage(path, "is no file", "Name a Markdown file with marks for cards")
        text = renewed(path.read_text("utf-8", "surrogateescape"))
        with whole_file(path, overwrite=True) as file:
            file.write(text.encode("utf-8", "surrogateescape"))
