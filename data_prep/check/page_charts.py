"""Charts of the page of a check, as SVG text: histograms and ranges. Colours come from the style sheet."""

from collections.abc import Mapping, Sequence
from html import escape

from data_prep.check.facts import Intensity

_WIDE, _HIGH = 320, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 16, 20
_BINS = 24


def histogram(counts: Mapping[int, int], *, title: str) -> str:
    """Bars over whole numbers, in at most 24 bins; the numbers at both ends and the highest count are written."""
    low, high = min(counts), max(counts)
    width = max(1, -(-(high - low + 1) // _BINS))
    bins = [0] * ((high - low) // width + 1)
    for value, count in counts.items():
        bins[(value - low) // width] += count
    most, floor = max(bins), _HIGH - _BOTTOM
    step = (_WIDE - _LEFT - _RIGHT) / len(bins)
    bars = []
    for number, count in enumerate(bins):
        tall = 0.0 if not count else max(1.5, (floor - _TOP) * count / most)
        start, stop = low + number * width, low + (number + 1) * width - 1
        span = f"{start}" if start == stop else f"{start} to {stop}"
        bars.append(
            f'<rect class="fill" x="{_LEFT + number * step + 0.5:.1f}" y="{floor - tall:.1f}" rx="1" '
            f'width="{max(step - 1, 1):.1f}" height="{tall:.1f}"><title>{span}: {count:,}</title></rect>'
        )
    ends = f'<text x="{_LEFT}" y="{_HIGH - 5}">{low:,}</text>'
    ends += f'<text x="{_WIDE - _RIGHT}" y="{_HIGH - 5}" text-anchor="end">{high:,}</text>' if high > low else ""
    top = f'<text x="{_LEFT}" y="11">most: {most:,}</text>'
    axis = f'<line class="line" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{floor}" y2="{floor}"/>'
    return _svg(title, _HIGH, "".join(bars) + axis + ends + top)


def ranges(channels: Sequence[Intensity], *, title: str) -> str:
    """A row for each channel: a thin line from the lowest to the highest value, a bar for 99 % of them, the mean."""
    low, high = min(c.minimum for c in channels), max(c.maximum for c in channels)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return 26 + (_WIDE - 36) * (value - low) / span

    rows = []
    for number, channel in enumerate(channels):
        y = 16 + 26 * number
        wide = max(x(channel.high) - x(channel.low), 1.5)
        label = (
            f"channel {number}: mean {channel.mean:.4g}, deviation {channel.std:.4g}, 99 % between {channel.low:.4g}"
        )
        rows.append(
            f'<g><title>{label} and {channel.high:.4g}</title><text x="8" y="{y + 4}">{number}</text>'
            f'<line class="line" x1="{x(channel.minimum):.1f}" x2="{x(channel.maximum):.1f}" y1="{y}" y2="{y}"/>'
            f'<rect class="fill" x="{x(channel.low):.1f}" y="{y - 6}" width="{wide:.1f}" height="12" rx="3"/>'
            f'<line class="mean" x1="{x(channel.mean):.1f}" x2="{x(channel.mean):.1f}" y1="{y - 9}" y2="{y + 9}"/></g>'
        )
    tall = 26 * len(channels) + 24
    ends = f'<text x="26" y="{tall - 5}">{low:.4g}</text>'
    ends += f'<text x="{_WIDE - 10}" y="{tall - 5}" text-anchor="end">{high:.4g}</text>'
    return _svg(title, tall, "".join(rows) + ends)


def bars(counts: Mapping[str, int], *, most: int = 12) -> str:
    """A table of names with a bar for each count, the largest first."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    rest = sum(count for _, count in ranked[most:])
    shown = [*ranked[:most], *([(f"{len(ranked) - most} others", rest)] if rest else [])]
    largest = max(count for _, count in shown)
    rows = [
        f'<tr><td>{escape(name)}</td><td class="number">{count:,}</td>'
        f'<td style="width:55%">{bar(count / largest)}</td></tr>'
        for name, count in shown
    ]
    return f"<table>{''.join(rows)}</table>"


def bar(share: float) -> str:
    """A bar of a share of its track, 0 to 1."""
    return f'<div class="track"><span class="bar" style="width:{100 * share:.2f}%"></span></div>' if share > 0 else ""


def _svg(title: str, height: float, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDE} {height}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )
