"""The quantisation report as one HTML file that needs nothing else: the picture as inline SVG, then every table.

Called by quantization_plot.py for ``edgeml inspect --plot FILE.html``.
"""

from __future__ import annotations

from html import escape

from edgeml.cli import output, quantization
from edgeml.cli.quantization import Report, Table

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #202124; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem }
svg { width: 100%; height: auto }
div { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid #dadce0 }
th { color: #5f6368; font-weight: 600 } td.number { text-align: right }
"""


def page(report: Report, heading: str, picture: str) -> str:
    """The report as HTML. ``picture``: an SVG document."""
    title = escape(output.printable(f"{heading}: quantised as {quantization.headline(report)}"))
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<h1>{title}</h1>",
        *(f"<p>{escape(output.printable(note))}</p>" for note in quantization.notes(report)),
        picture[picture.index("<svg") :],  # without the XML declaration, which HTML does not have
        *map(_table, quantization.tables(report)),
        "</html>\n",
    ]
    return "\n".join(parts)


def _table(table: Table) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return f"<h2>{_text(table.title)}</h2>\n<div><table>\n<tr>{header}</tr>\n{rows}\n</table></div>"


def _cell(cell: output.Cell) -> str:
    text = "—" if cell is None else _text(cell)
    number = text == "—" or text[:1].isdigit() or text[:1] == "-"
    return f'<td class="number">{text}</td>' if number else f"<td>{text}</td>"


def _text(text: object) -> str:
    return escape(output.printable(text))
