"""A table's figures as bars, in SVG: no library is needed for that, and a browser shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

from bench.report import Cell, Curves, Table

WIDTH, LEFT, RIGHT = 760, 230, 70
BAR, GAP, GROUP_GAP, TOP = 16, 4, 14, 44
_STEPS = (1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0)  # from one number on an axis to the next, times a power of ten
COLOURS = ("#2b6cb0", "#90b4d6", "#c05621", "#2f855a", "#9ae6b4", "#805ad5", "#1a202c")


@dataclass(frozen=True)
class _Bar:
    group: str
    who: str
    value: float
    least: float
    most: float


def svg(table: Table) -> str:
    """Return the chart that a table names; raises `ValueError` for a table without one, or without figures."""
    chart = table.chart
    if chart is None:
        raise ValueError(f"{table.title!r} has no chart")
    if isinstance(chart, Curves):
        return _curves(table, chart)
    place = {name: number for number, name in enumerate(table.columns)}
    bars = [_bar(row, place, chart.groups, chart.value, chart.spread) for row in table.rows]
    if not bars:
        raise ValueError(f"{table.title!r} has no rows")
    scale = (WIDTH - LEFT - RIGHT) / (max(bar.most for bar in bars) or 1.0)
    colours = {who: COLOURS[k % len(COLOURS)] for k, who in enumerate(dict.fromkeys(bar.who for bar in bars))}
    parts, y, group = [], float(TOP), None
    for bar in bars:
        if bar.group != group:
            y += GROUP_GAP if group is not None else 0
            parts.append(f'<text x="8" y="{y + 12:.0f}" font-weight="bold">{escape(bar.group)}</text>')
            group = bar.group
        parts.append(_draw(bar, y, scale, colours[bar.who]))
        y += BAR + GAP
    head = f'<text x="8" y="20" font-weight="bold" font-size="14">{escape(table.title)}</text>'
    size = f'width="{WIDTH}" height="{y + GAP:.0f}" viewBox="0 0 {WIDTH} {y + GAP:.0f}"'
    style = 'font-family="sans-serif" font-size="12"'
    body = "\n".join(parts)
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{ground}\n{head}\n{body}\n</svg>\n'


def _curves(table: Table, chart: Curves) -> str:
    """Return points with lines between them, both axes from zero."""
    place = {name: number for number, name in enumerate(table.columns)}
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in table.rows:
        point = _number(row[place[chart.across]]), _number(row[place[chart.up]])
        if all(map(isfinite, point)):
            lines.setdefault(str(row[place["who"]]), []).append(point)
    if not lines:
        raise ValueError(f"{table.title!r} has no rows")
    wide, high, left, top = 480.0, 360.0, 60.0, TOP
    most_x, most_y = (_axis(max(point[k] for line in lines.values() for point in line)) for k in (0, 1))
    parts = [f'<path d="M{left} {top}V{top + high}H{left + wide}" stroke="#222" fill="none"/>']
    for k in range(6):
        x, y = left + wide * k / 5, top + high * (1 - k / 5)
        parts.append(
            f'<text x="{x:.0f}" y="{top + high + 16:.0f}" text-anchor="middle">{_tick(most_x * k / 5)}</text>'
        )
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{_tick(most_y * k / 5)}</text>')
    for k, (who, line) in enumerate(lines.items()):
        colour = COLOURS[k % len(COLOURS)]
        at = [(left + wide * x / most_x, top + high * (1 - y / most_y)) for x, y in line]
        parts.append(f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in at)}" stroke="{colour}" fill="none"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        parts.append(f'<text x="{left + wide + 12}" y="{top + 16 * k + 12}" fill="{colour}">{escape(who)}</text>')
    parts.append(
        f'<text x="{left + wide / 2}" y="{top + high + 36}" text-anchor="middle">{escape(chart.across)}</text>'
    )
    parts.append(f'<text x="{left}" y="{top - 6}">{escape(chart.up)}</text>')
    body = "\n".join(parts)
    head = f'<text x="8" y="20" font-weight="bold" font-size="14">{escape(table.title)}</text>'
    size = f'width="{WIDTH}" height="{top + high + 50:.0f}"'
    style = 'font-family="sans-serif" font-size="12"'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{ground}\n{head}\n{body}\n</svg>\n'


def _axis(most: float) -> float:
    """Return where an axis ends that has `most` on it: a fifth of it is a round number."""
    fifth = most / 5 or 0.2
    unit = 10.0 ** floor(log10(fifth))
    return 5 * unit * next(step for step in _STEPS if step * unit >= fifth * 0.999999)


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bar(
    row: Sequence[Cell], place: dict[str, int], groups: Sequence[str], value: str, spread: tuple[str, str] | None
) -> _Bar:
    middle = _number(row[place[value]])
    least, most = (_number(row[place[name]]) for name in spread) if spread else (middle, middle)
    group = ", ".join(f"{name} {row[place[name]]}" for name in groups)
    return _Bar(group, str(row[place["who"]]), middle, least, most)


def _number(cell: Cell) -> float:
    if not isinstance(cell, int | float):
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)


def _draw(bar: _Bar, y: float, scale: float, colour: str) -> str:
    middle, end = y + BAR / 2, LEFT + bar.value * scale
    most = LEFT + bar.most * scale
    shown = f"{bar.value:,.0f}" if bar.value >= 100 else f"{bar.value:.3g}"
    return (
        f'<text x="{LEFT - 8}" y="{y + 12:.0f}" text-anchor="end">{escape(bar.who)}</text>'
        f'<rect x="{LEFT}" y="{y:.0f}" width="{end - LEFT:.1f}" height="{BAR}" fill="{colour}"/>'
        f'<path d="M{LEFT + bar.least * scale:.1f} {middle:.0f}H{most:.1f}" stroke="#222"/>'
        f'<text x="{max(end, most) + 6:.0f}" y="{y + 12:.0f}">{shown}</text>'
    )
