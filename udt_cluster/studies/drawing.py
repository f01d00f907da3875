"""Figures as a few shapes, written twice: as SVG into the page, where they follow light and dark, and as PNG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Role = Literal[
    "ink", "faint", "line", "soft", "band", "card", "plain", "good", "bad", "one", "two", "three", "four", "five"
]
Anchor = Literal["start", "middle", "end"]

LIGHT: Mapping[Role, str] = {
    "ink": "#1d2433",
    "faint": "#616b7c",
    "line": "#c9ced8",
    "soft": "#dbe6f4",
    "band": "#f3f5f9",
    "card": "#ffffff",
    "plain": "#7d8799",
    "good": "#2463b8",
    "bad": "#c2570c",
    "one": "#2463b8",
    "two": "#c2570c",
    "three": "#17694a",
    "four": "#8e4585",
    "five": "#7a6a00",
}
"""Colours by what they mean; gains and losses are blue and orange, which colour-blind readers tell apart."""

DARK: Mapping[Role, str] = {
    "ink": "#e8ebf0",
    "faint": "#9aa5b6",
    "line": "#3b4557",
    "soft": "#273650",
    "band": "#212936",
    "card": "#1b212b",
    "plain": "#8a95a8",
    "good": "#86b4f2",
    "bad": "#f2a05c",
    "one": "#86b4f2",
    "two": "#f2a05c",
    "three": "#7fd6ae",
    "four": "#d9a0d2",
    "five": "#d8c95a",
}
SERIES: tuple[Role, ...] = ("one", "two", "three", "four", "five")

_SIZE = 12  # of text, in the units of the drawing
_INCH = 100  # units
_DPI = 170
_MARGIN = 14  # around a PNG


@dataclass(frozen=True, kw_only=True)
class Line:
    """A straight line, or a broken one through several points."""

    points: tuple[tuple[float, float], ...]
    role: Role = "line"
    width: float = 1.0
    dashed: bool = False
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle, filled."""

    x: float
    y: float
    width: float
    height: float
    role: Role = "soft"
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    radius: float = 4.0
    role: Role = "ink"
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Words:
    """Text; `y` is its baseline."""

    x: float
    y: float
    text: str
    role: Role = "faint"
    anchor: Anchor = "start"
    size: float = _SIZE
    bold: bool = False
    title: str = ""


Shape = Line | Box | Dot | Words


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure: shapes on a sheet whose origin is at the top left; later ones lie on top."""

    name: str
    title: str
    width: float
    height: float
    shapes: tuple[Shape, ...]

    def to_svg(self) -> str:
        """For the page; colours are classes of its style sheet."""
        label = escape(self.title, quote=True)
        inner = "".join(_svg(shape) for shape in self.shapes)
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" style="max-width:{self.width:g}px"'
        return f'<svg {size} role="img" aria-label="{label}"><title>{label}</title>{inner}</svg>'

    def to_png(self) -> bytes:
        """In light colours, with a white ground."""
        from matplotlib.figure import Figure  # half a second, needed for pictures only

        size = (self.width + 2 * _MARGIN, self.height + 2 * _MARGIN)
        figure = Figure(figsize=(size[0] / _INCH, size[1] / _INCH), dpi=_DPI, facecolor=LIGHT["card"])
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(-_MARGIN, self.width + _MARGIN)
        axes.set_ylim(self.height + _MARGIN, -_MARGIN)
        axes.set_axis_off()
        for shape in self.shapes:
            _draw(axes, shape)
        data = BytesIO()
        figure.savefig(data, format="png", metadata={"Title": self.title})
        return data.getvalue()


def shortened(text: str, most: int) -> str:
    """At most so many signs, the middle left out."""
    if len(text) <= most:
        return text
    left = (most - 1) // 2
    return f"{text[:left]}…{text[left + 1 - most :]}"


def color_rules() -> str:
    """Style rules of the shapes' classes."""
    light = " ".join(f"--c-{role}: {color};" for role, color in LIGHT.items())
    dark = " ".join(f"--c-{role}: {color};" for role, color in DARK.items())
    roles = " ".join(
        f"svg .f-{role} {{ fill: var(--c-{role}); }} svg .s-{role} {{ stroke: var(--c-{role}); }}" for role in LIGHT
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{roles}\n"


def _svg(shape: Shape) -> str:
    hint = f"<title>{escape(shape.title)}</title>" if shape.title else ""
    match shape:
        case Line():
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            dash = ' stroke-dasharray="5 4"' if shape.dashed else ""
            style = f'class="s-{shape.role}" stroke-width="{shape.width:.1f}"{dash} fill="none"'
            return f'<polyline points="{path}" {style}>{hint}</polyline>'
        case Box():
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
            return f'<rect {place} class="f-{shape.role}">{hint}</rect>'
        case Dot():
            place = f'cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:.1f}"'
            return f'<circle {place} class="f-{shape.role}">{hint}</circle>'
        case Words():
            weight = ' font-weight="600"' if shape.bold else ""
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{shape.anchor}" font-size="{shape.size:g}"'
            return f'<text {place} class="f-{shape.role}"{weight}>{hint}{escape(shape.text)}</text>'


def _draw(axes: "Axes", shape: Shape) -> None:
    from matplotlib.patches import Circle, Rectangle

    color = LIGHT[shape.role]
    points = 72 / _INCH  # of a unit
    match shape:
        case Line():
            style = (0, (5, 4)) if shape.dashed else "-"
            columns: Sequence[Sequence[float]] = list(zip(*shape.points, strict=True))
            axes.plot(*columns, color=color, linewidth=shape.width * points, linestyle=style, solid_capstyle="butt")
        case Box():
            axes.add_patch(Rectangle((shape.x, shape.y), shape.width, shape.height, color=color, linewidth=0))
        case Dot():
            axes.add_patch(Circle((shape.x, shape.y), shape.radius, color=color, linewidth=0, zorder=3))
        case Words():
            sides = {"start": "left", "middle": "center", "end": "right"}
            weight = "bold" if shape.bold else "normal"
            text = shape.text.replace("$", r"\$")
            axes.text(
                shape.x,
                shape.y,
                text,
                color=color,
                fontsize=shape.size * points * 0.94,
                ha=sides[shape.anchor],
                va="baseline",
                weight=weight,
            )
