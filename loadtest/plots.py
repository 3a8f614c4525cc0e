"""Draws lines over time as SVG, and puts them on one HTML page that needs nothing else.

Pure: numbers in, text out. A point is (seconds since the beginning, value).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
TICKS = 5
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")

STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 1em}"
    "svg{width:100%;height:auto}pre{background:#f6f8fa;padding:1em;overflow:auto}"
    "text{font:11px system-ui,sans-serif;fill:#57606a}"
)

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis of time, which all have one unit."""

    title: str
    unit: str
    lines: Mapping[str, Points]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a point is on the paper."""

    seconds: float
    top: float

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / self.seconds

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top


def step_of(most: float) -> float:
    """The distance of ticks, 1, 2 or 5 times a power of ten, so that a few reach `most`."""
    if most <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(most / TICKS))
    return next(unit * n for n in (1, 2, 5, 10) if unit * n * TICKS >= most * 0.999)


def svg(chart: Chart, seconds: float, marks: Sequence[float] = ()) -> str:
    """A chart as an SVG element; `marks` are moments that get a vertical line."""
    most = max((value for points in chart.lines.values() for _, value in points), default=0.0)
    step = step_of(most)
    scale = _Scale(max(seconds, 1e-9), step * TICKS)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">']
    for tick in range(TICKS + 1):
        y = scale.y(tick * step)
        parts += [
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d8dee4"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:,g}</text>',
        ]
    along = step_of(seconds)
    for tick in range(int(seconds / along) + 1):
        x = scale.x(tick * along)
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick * along:g} s</text>'
        )
    for mark in marks:
        parts.append(
            f'<path d="M{scale.x(mark):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#9a6700" '
            'stroke-dasharray="2 4"/>'
        )
    for (name, points), colour in zip(chart.lines.items(), COLOURS, strict=False):
        path = " ".join(f"{scale.x(at):.1f},{scale.y(value):.1f}" for at, value in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return "".join([*parts, "</svg>"])


def page(
    title: str, text: str, charts: Sequence[Chart], seconds: float, marks: Sequence[float] = ()
) -> str:
    """An HTML document: what was found as text, then the charts."""
    body = [f"<h1>{escape(title)}</h1><pre>{escape(text)}</pre>"]
    for chart in charts:
        legend = " ".join(
            f'<span style="color:{colour}">&#9644; {escape(name)}</span>'
            for name, colour in zip(chart.lines, COLOURS, strict=False)
        )
        drawn = svg(chart, seconds, marks)
        body.append(f"<h2>{escape(chart.title)}, {escape(chart.unit)}</h2><p>{legend}</p>{drawn}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )
