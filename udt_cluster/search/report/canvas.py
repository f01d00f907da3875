"""Where figures are drawn: the house's colours, PNG for papers, SVG for the page (light and dark, with tool tips)."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from udt_cluster.search.report.sweep import Sweep
from udt_cluster.search.report.tables import Table
from udt_cluster.search.report.wording import score_text
from udt_cluster.search.trials import Trial, TrialState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The page's own colours: in its SVG each becomes the variable of the style sheet, which has a dark half.
INK, FAINT, LINE, PAPER = "#1d2433", "#616b7c", "#dfe2e8", "#ffffff"
ACCENT, BAR, SOFT = "#2463b8", "#5b8fd0", "#dbe6f4"
REFUSED, WARNING, PASSED = "#b3261e", "#8a5a00", "#17694a"
STEPS = ("#cfdcec", "#aac5e6", "#7fa8dc", "#4d82cc", "#1f5cae")
"""From the worst fifth to the best."""
_VARIABLES = {color: f"step-{number}" for number, color in enumerate(STEPS, start=1)} | {
    INK: "ink", FAINT: "faint", LINE: "line", PAPER: "card", ACCENT: "accent", BAR: "bar", SOFT: "soft",
    REFUSED: "refused", WARNING: "warning", PASSED: "passed",
}  # fmt: skip
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_NUMBERS = re.compile(r"(\d+\.\d{1,2})\d+")
_COLOR = re.compile("|".join(_VARIABLES))
_FONT = re.compile(r"\s*font-family:[^;]*;?")
_REFERENCE = re.compile(r"url\(#")
HALF, WIDE, SMALL = (500, 290), (1030, 340), (330, 230)
"""Width and height of a figure in CSS pixels, at which its letters have 11."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How trials of one state are drawn."""

    marker: str
    face: str
    edge: str
    size: float = 30.0

    @property
    def options(self) -> dict[str, Any]:
        """What a scatter takes; crosses have no inside."""
        colors = {"c": self.face} if self.marker in "x+" else {"facecolors": self.face, "edgecolors": self.edge}
        wide = self.face in (PAPER, self.edge)
        return {**colors, "s": self.size, "marker": self.marker, "linewidths": 1.3 if wide else 0.8, "clip_on": False}


MARKS: dict[TrialState, Mark] = {
    "finished": Mark(marker="o", face=BAR, edge=PAPER),
    "pruned": Mark(marker="o", face=PAPER, edge=FAINT, size=20.0),
    "running": Mark(marker=">", face=PAPER, edge=ACCENT),
    "diverged": Mark(marker="x", face=REFUSED, edge=REFUSED),
    "failed": Mark(marker="+", face=WARNING, edge=WARNING, size=42.0),
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure and its numbers.

    Attributes:
        name: Of its files.
        title: What it shows.
        caption: What to know when reading it; may be empty.
        table: What it draws.
        figure: As drawn by matplotlib.
        tips: Tool tips of the points or lines of each group of the drawing, by the group's id.
    """

    name: str
    title: str
    caption: str = ""
    table: Table
    figure: "Figure"
    tips: dict[str, list[str]] = field(default_factory=dict)


class Canvas:
    """One figure while it is drawn.

    Args:
        size: Width and height in CSS pixels.
    """

    def __init__(self, size: tuple[float, float] = HALF) -> None:
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        self.tips: dict[str, list[str]] = {}

    def tip(self, artist: Any, texts: Sequence[str]) -> None:
        """Tool tips for the points of a scatter or the lines of a collection, in their order."""
        name = f"tips-{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = list(texts)

    def scatter(self, trials: Sequence[Trial], x: Sequence[float], y: Sequence[float], state: TrialState) -> None:
        """Trials of one state, each with a tool tip; nothing where there are none."""
        if not trials:
            return
        found = self.axes.scatter(x, y, label=f"{state} ({len(trials)})", zorder=3, **MARKS[state].options)
        self.tip(found, [tip(trial) for trial in trials])

    def best(self, trial: Trial | None, x: float, y: float) -> None:
        """The best trial, on top of everything."""
        if trial is None:
            return
        found = self.axes.scatter(
            [x], [y], s=64, marker="D", facecolors=PASSED, edgecolors=PAPER, label="best", zorder=5, clip_on=False
        )
        self.tip(found, [f"best: {tip(trial)}"])

    def legend(self, columns: int = 3) -> None:
        """Names of what is drawn, below the axes: above them is the title of the picture."""
        handles, labels = self.axes.get_legend_handles_labels()
        if handles:
            self.figure.legend(handles, labels, loc="outside lower left", ncols=columns)

    def chart(self, name: str, title: str, table: Table, caption: str = "") -> Chart:
        """The figure, drawn."""
        return Chart(name=name, title=title, table=table, caption=caption, figure=self.figure, tips=self.tips)


@contextmanager
def house_style() -> Iterator[None]:
    """Inside, figures are drawn and saved in the style of the page."""
    import matplotlib

    thin: dict[str, Any] = {f"{axis}tick.major.{part}": 0.0 for axis in "xy" for part in ("size", "width")}
    settings = thin | {
        "font.size": 11, "font.family": "DejaVu Sans", "text.color": INK, "text.parse_math": False,
        "axes.edgecolor": FAINT, "axes.labelcolor": FAINT, "axes.linewidth": 0.8, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "axes.titlesize": 12,
        "axes.formatter.use_mathtext": False, "axes.formatter.useoffset": False, "grid.color": LINE,
        "grid.linewidth": 0.8, "xtick.color": FAINT, "ytick.color": FAINT, "legend.frameon": False,
        "legend.fontsize": 11, "legend.handletextpad": 0.3, "legend.columnspacing": 1.2, "legend.labelcolor": FAINT,
        "legend.borderpad": 0.0, "figure.facecolor": PAPER, "axes.facecolor": "none", "svg.fonttype": "none",
        "svg.hashsalt": "udt-cluster", "figure.constrained_layout.h_pad": 0.06,
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def png(chart: Chart, *, dots_per_inch: int = 180, titled: bool = True) -> bytes:
    """The figure, with its title, as a picture. Call :func:`svg` before: the title stays."""
    if titled and not any(text.get_text() == chart.title for text in chart.figure.texts):
        chart.figure.suptitle(chart.title, fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")
    made = BytesIO()
    chart.figure.savefig(made, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return made.getvalue()


def svg(chart: Chart) -> str:
    """The figure as an element for an HTML page, in the page's colours and letters, with its tool tips."""
    made = StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    chart.figure.savefig(made, format="svg", transparent=True, metadata=nothing)
    ElementTree.register_namespace("", _SVG.strip("{}"))
    ElementTree.register_namespace("xlink", _LINK.strip("{}"))
    root = ElementTree.fromstring(made.getvalue())
    for group in root.iter(f"{_SVG}g"):
        _put_tips(group, chart.tips.get(group.get("id", ""), []))
    for element in root.iter():
        _adapt(element, chart.name)
    for defs in root.findall(f"{_SVG}defs"):
        for sheet in defs.findall(f"{_SVG}style"):
            defs.remove(sheet)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib.update({"role": "img", "aria-label": chart.title})
    return ElementTree.tostring(root, encoding="unicode")


def _put_tips(group: ElementTree.Element, texts: Sequence[str]) -> None:
    shared = {id(element) for defs in group.iter(f"{_SVG}defs") for element in defs.iter()}
    kinds = (f"{_SVG}use", f"{_SVG}path")
    drawn = [element for element in group.iter() if element.tag in kinds and id(element) not in shared]
    if len(drawn) != len(texts):
        return
    for element, text in zip(drawn, texts, strict=True):
        ElementTree.SubElement(element, f"{_SVG}title").text = text


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Ids that no other figure of the page has, colours of the style sheet, two digits after the point."""
    for key, value in element.attrib.items():
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif key == f"{_LINK}href":
            element.set(key, f"#{name}-{value.removeprefix('#')}")
        elif key == "style":
            element.set(key, _COLOR.sub(lambda found: f"var(--{_VARIABLES[found.group()]})", _FONT.sub("", value)))
        elif key in ("d", "x", "y", "transform"):
            element.set(key, " ".join(_NUMBERS.sub(r"\1", value).split()))
        elif key == "clip-path":
            element.set(key, _REFERENCE.sub(f"url(#{name}-", value))


def tip(trial: Trial) -> str:
    """`trial 17, finished: 0.8421`."""
    found = trial.score
    return f"trial {trial.number}, {trial.state}" + ("" if found is None else f": {score_text(found)}")


def shortened(text: str, most: int) -> str:
    """The text, with an ellipsis where it is too long for an axis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def best_of(sweep: Sweep) -> Trial | None:
    """The best finished trial."""
    return next(iter(sweep.finished), None)
