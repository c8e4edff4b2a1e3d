"""The demo's report: one self-contained page with pictures, numbers with their units, and what they were held to."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DISCLAIMER = "A research tool, not a medical device. Nothing here may steer the treatment of a patient."

STYLE = """
:root{--ink:#1d242c;--soft:#5b6673;--line:#dde2e8;--wash:#f4f6f8;--good:#1f7a4d;--bad:#b3361b;--accent:#22577a}
*{box-sizing:border-box}
body{margin:0;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;color:var(--ink)}
header{background:#12202c;color:#eef3f7;padding:28px max(24px,calc(50vw - 560px))}
header h1{margin:0 0 4px;font-size:26px;font-weight:650;letter-spacing:-.01em}
header p{margin:0;color:#b5c4d1}
main{max-width:1120px;margin:0 auto;padding:8px 24px 48px}
h2{font-size:19px;margin:36px 0 10px;padding-top:18px;border-top:1px solid var(--line)}
p.note{color:var(--soft);max-width:76ch;margin:6px 0 12px}
.pictures{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(var(--w,320px),1fr));margin:12px 0}
figure{margin:0;background:#0f151b;border-radius:6px;overflow:hidden}
figure img{display:block;width:100%;height:auto}
figcaption{background:var(--wash);color:var(--soft);font-size:13px;padding:6px 10px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:10px 0}
th{font-weight:600;text-align:left;color:var(--soft);font-size:13px}
th,td{padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}
.warn{background:#fff6e5;border-left:4px solid #d99a1c;padding:10px 14px;margin:14px 0;border-radius:0 6px 6px 0}
footer{color:var(--soft);font-size:13px;border-top:1px solid var(--line);margin-top:40px;padding-top:12px}
"""


@dataclass(frozen=True)
class Picture:
    """A picture file with what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of text; `numeric` columns stand right-aligned."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A heading, a line that explains, tables, then pictures at least `picture_px` wide."""

    title: str
    note: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    picture_px: int = 320


def verdict(value: float | None, limit: float, unit: str) -> tuple[str, str]:
    """A measured number and whether it keeps its limit, as table cells; no truth, no verdict."""
    if value is None:
        return "not measured", "no truth for this scan"
    kept = value <= limit
    return f"{value:.2f} {unit}", f'<span class="{"good" if kept else "bad"}">{"kept" if kept else "missed"}</span>'


def page(title: str, subtitle: str, sections: Sequence[Section], warnings: Sequence[str]) -> str:
    """The whole page; text is escaped, cells that begin with `<span` are ours and stay."""
    body = [f'<div class="warn">{html.escape(DISCLAIMER)}</div>']
    body += [f'<div class="warn">{html.escape(line)}</div>' for line in warnings]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.note:
            body.append(f'<p class="note">{html.escape(section.note)}</p>')
        body += [_table(table) for table in section.tables]
        if section.pictures:
            figures = "".join(_figure(picture) for picture in section.pictures)
            body.append(f'<div class="pictures" style="--w:{section.picture_px}px">{figures}</div>')
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<header><h1>{html.escape(title)}</h1><p>{html.escape(subtitle)}</p></header><main>{''.join(body)}"
        f"<footer>{html.escape(DISCLAIMER)}</footer></main></body></html>\n"
    )


def _cell(text: str) -> str:
    return text if text.startswith("<span") else html.escape(text)


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        marks = (' class="n"' if i in table.numeric else "" for i in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{m}>{_cell(c)}</{tag}>" for c, m in zip(cells, marks, strict=True)) + "</tr>"

    return f"<table>{row(table.head, 'th')}{''.join(row(r, 'td') for r in table.rows)}</table>"


def _figure(picture: Picture) -> str:
    kind = "jpeg" if picture.path.suffix == ".jpg" else "png"
    data = base64.b64encode(picture.path.read_bytes()).decode()
    caption = html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def timings_table(seconds: Mapping[str, float]) -> Table:
    """Wall-clock seconds a stage on this machine."""
    rows = [(name, f"{value:.1f} s") for name, value in seconds.items()]
    rows.append(("all", f"{sum(seconds.values()):.1f} s"))
    return Table(("Stage", "Time on this machine"), rows, frozenset({1}))


def number(value: Any, unit: str, digits: int = 2) -> str:
    """A number with its unit, or that it is not known."""
    return "unknown" if value is None else f"{value:.{digits}f} {unit}"
