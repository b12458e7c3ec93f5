"""One HTML page that needs no other file and no network."""

from __future__ import annotations

import html
from pathlib import Path

from volumes.errors import one_line

_HERE = Path(__file__).parent
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def heading(text: str) -> str:
    """Plain text as HTML on one line, such as the name of a file."""
    return html.escape(one_line(text)).encode(errors="backslashreplace").decode()


def page(title: str, body: str) -> str:
    """The text of a page with the style and the script of the viewer and of sortable tables.

    Its content security policy forbids the browser to load anything.

    Args:
        title: plain text.
        body: HTML.
    """
    style, script = ((_HERE / name).read_text("utf-8") for name in ("viewer.css", "viewer.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{heading(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )
