"""The application object; other modules add the commands."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="engine",
    help="Trains and applies networks that remove noise and artefacts from CT volumes. "
    "Research use, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from engine import __version__

        print(f"engine {__version__}")
        raise typer.Exit


@app.callback()
def engine(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Trains and applies networks that remove noise and artefacts from CT volumes."""
