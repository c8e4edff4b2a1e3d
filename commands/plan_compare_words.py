"""A comparison of plans as rows of words: the same rows are printed and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from render.scene import Rgb
    from render.table import Row

NONE = "-"
GRADE_RGB: Mapping[str, Rgb] = {
    "A": (0.36, 0.80, 0.52),
    "B": (0.74, 0.80, 0.36),
    "C": (0.98, 0.72, 0.35),
    "D": (0.96, 0.50, 0.33),
    "E": (0.94, 0.36, 0.36),
}
SIGNS = {"deg": "°", "mm": " mm", "percent": " %"}
FULL_MARGIN_MM = 4.0  # a bar as wide as its column


def rows_of(report: Mapping[str, Any]) -> list[Row]:
    """The whole table: each plan in numbers, the alignment after it, and each thing that plans hold."""
    from render.table import Row

    plans = report["plans"]
    rows = [
        Row("Plan"),
        _row("Status", plans, lambda p: p["status"]["state"]),
        *(
            _row(plural.capitalize(), plans, lambda p, plural=plural: str(p["counts"][plural]))
            for plural in plans[0]["counts"]
            if any(p["counts"][plural] for p in plans)
        ),
        _row("Grades", plans, lambda p: "  ".join(f"{n} {g}" for g, n in p["grades"].items()) or NONE),
        _row("Worst breach", plans, _worst),
        _row("Least wall margin", plans, _margin),
        _row("Least hold (unverified)", plans, _hold),
        _row("Bone taken out", plans, lambda p: f"{p['removed_ml']:.1f} mL"),
    ]
    rows += _alignment_rows(plans, report["before"])
    for noun, heading in (("screw", "Screws: grade, least wall margin, size"), ("osteotomy", "Cuts"), ("rod", "Rods")):
        items = [one for one in report["items"] if one["noun"] == noun]
        rows += [Row(heading)] * bool(items)
        rows += [_item_row(one, [p["plan"] for p in plans]) for one in items]
    return rows


def printed(report: Mapping[str, Any]) -> list[str]:
    """The table in lines; a star stands before what differs."""
    rows = rows_of(report)
    heads = [p["plan"] for p in report["plans"]]
    first = max(len(row.name) for row in rows if row.cells) + 2
    wide = [
        max([len(head), *(len(row.cells[n].text) for row in rows if row.cells)]) + 2 for n, head in enumerate(heads)
    ]
    lines = [" " * (first + 2) + "".join(head.rjust(w) for head, w in zip(heads, wide, strict=True))]
    for row in rows:
        if not row.cells:
            lines.append(row.name)
            continue
        cells = "".join(cell.text.rjust(w) for cell, w in zip(row.cells, wide, strict=True))
        lines.append(f"{'*' if row.stands_out else ' '} {row.name.ljust(first)}{cells}")
    return lines


def _alignment_rows(plans: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> list[Row]:
    """What was measured of the spine, and of the legs what a plan changes, each with its value now and its 95 %."""
    from render.table import Row
    from twin.plan.measures.alignment import POSTURE, WORDS
    from twin.plan.measures.leg_angles import LEG_WORDS

    rows = []
    for name, now in before.items():
        side, _, own = name.rpartition(" ")
        row = _row("", plans, lambda p, name=name: _measured(p["alignment"].get(name)))
        if side and all(cell.text == _measured(now) for cell in row.cells):
            continue
        words = f"{side.capitalize()}: {LEG_WORDS[own]}" if side else WORDS[own]
        rows.append(Row(f"{words}, now {_measured(now)}", row.cells, row.stands_out))
    return [Row(f"Alignment after the plan, ± 95 % ({POSTURE}: a standing patient's is another)"), *rows] * bool(rows)


def _row(name: str, plans: Sequence[Mapping[str, Any]], words: Callable[..., str]) -> Row:
    from render.table import Cell, Row

    texts = [words(plan) for plan in plans]
    return Row(name, tuple(Cell(text) for text in texts), len(set(texts)) > 1)


def _item_row(one: Mapping[str, Any], plans: Sequence[str]) -> Row:
    from render.table import Row

    return Row(one["id"], tuple(_cell(one["noun"], one["in"][name]) for name in plans), one["differs"])


def _cell(noun: str, held: Mapping[str, Any] | None) -> Any:
    from render.table import Cell

    if held is None:
        return Cell(NONE)
    if noun == "screw":
        margin = held["margin_mm"]
        size = f"{held['diameter_mm']:g} x {held['length_mm']:g} mm"
        text = f"{held['grade'] or '?'}  {_number(margin, 'mm')}  {size}"
        bar = None if margin is None else margin / FULL_MARGIN_MM
        return Cell(text, GRADE_RGB.get(held["grade"]), bar)
    if noun == "osteotomy":
        return Cell(f"{held['kind']} {held['angle_deg']:.1f} deg, {held['removed_ml']:.1f} mL")
    return Cell("yes")


def _worst(plan: Mapping[str, Any]) -> str:
    worst = plan["worst"]
    return NONE if worst is None else f"{worst['id']} {worst['breach_mm']:.1f} mm {worst['breach_direction']}"


def _margin(plan: Mapping[str, Any]) -> str:
    least = plan["least_margin"]
    if least is None:
        return NONE
    sd = "" if least["sd_mm"] is None else f" (sd {least['sd_mm']:.2f})"
    return f"{least['id']} {least['wall']} {least['margin_mm']:.1f} mm{sd}"


def _hold(plan: Mapping[str, Any]) -> str:
    least = plan["least_hold"]
    if least is None:
        return NONE
    low, best, high = least["hold_n"]
    return f"{least['id']} {best:.0f} N ({low:.0f} to {high:.0f})"


def _measured(one: Mapping[str, Any] | None) -> str:
    if one is None or one["value"] is None:
        return NONE
    spread = "" if one["sd"] is None else f" ± {2.0 * one['sd']:.1f}"
    return f"{one['value']:.1f}{SIGNS[one['unit']]}{spread}"


def _number(value: float | None, unit: str) -> str:
    return NONE if value is None else f"{value:.1f} {unit}"
