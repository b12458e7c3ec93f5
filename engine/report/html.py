"""The HTML report of a comparison: the text of report.md, its figures, and the viewer."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping

_BOLD, _CODE = re.compile(r"\*\*(.+?)\*\*"), re.compile(r"`(.+?)`")
_IMAGE = re.compile(r"!\[(.*)\]\((.*)\)\Z")


def report_body(text: str, figures: Mapping[str, bytes], viewer: str) -> str:
    """The body of the page.

    Args:
        text: of report.md: headings, paragraphs, lists, tables and figures.
        figures: PNG by name. Figures that are not among them are left out, with their captions.
        viewer: HTML, placed below the first heading.
    """
    parts, caption = [], ""
    for block in text.strip().split("\n\n"):
        if block.startswith("**Figure "):
            caption = block
        elif found := _IMAGE.match(block):
            if found[2] in figures:
                parts.append(_figure(found[1], figures[found[2]], caption))
        else:
            parts.append(_block(block))
    heading, rest = parts[0], parts[1:]
    return "\n".join([heading, viewer, *rest])


def _block(text: str) -> str:
    if text.startswith("# "):
        return f"<h1>{_words(text[2:])}</h1>"
    if text.startswith("|"):
        return _table(text)
    if text.startswith("- "):
        items = "".join(f"<li>{_words(item[2:])}</li>" for item in text.split("\n"))
        return f"<ul>{items}</ul>"
    return f"<p>{_words(text)}</p>"


def _table(text: str) -> str:
    header, _, *rows = ([_cell(cell) for cell in _cells(line)] for line in text.split("\n"))
    head = "".join(f'<th scope="col"><button type="button">{cell}</button></th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(line: str) -> list[str]:
    """The cells of a row. A bar within a cell is escaped."""
    return re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))


def _cell(text: str) -> str:
    return _words(text.strip().replace(r"\|", "|"))


def _figure(name: str, png: bytes, caption: str) -> str:
    source = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{source}" alt="{html.escape(name)}">'
        f"<figcaption>{_words(caption)}</figcaption></figure>"
    )


def _words(text: str) -> str:
    escaped = html.escape(text, quote=False).encode(errors="backslashreplace").decode()
    return _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<strong>\1</strong>", escaped))
