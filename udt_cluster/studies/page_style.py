"""What the page of a study adds to how all pages look."""

from udt_cluster.pages import STYLE
from udt_cluster.studies.drawing import color_rules

CSS = (
    STYLE
    + color_rules()
    + """
p { margin: 0 0 8px; max-width: 78ch; }
.faint, .study { color: var(--faint); }
.study { margin: 0 0 16px; }
.verdict { display: block; padding: 12px 16px; border-radius: 10px; font-size: 17px; font-weight: 600;
  max-width: none; }
.card + .card, .card + details, details + details, details + .card { margin-top: 14px; }
.tiles li { padding: 12px 10px; }
.also { margin: 12px 0 14px; padding-left: 20px; max-width: 90ch; }
.also li { margin-bottom: 3px; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
details > *:not(summary) { margin-top: 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
td { vertical-align: top; }
td { white-space: nowrap; }
td:first-child { white-space: normal; min-width: 8em; }
th:last-child, td:last-child { padding-right: 2px; }
tr.gain td:last-child { color: var(--gain); font-weight: 600; }
tr.loss td:last-child { color: var(--loss); font-weight: 600; }
svg { margin: 0 auto; }
svg text { font-family: system-ui, "Segoe UI", Roboto, sans-serif; }
@media (max-width: 620px) { main, header, footer { padding: 0 14px; } .card, details { padding: 10px; }
  .verdict { font-size: 16px; } figure { overflow-x: auto; } figure svg { min-width: 540px; } }
@media print { body { background: #fff; font-size: 12px; } .card, figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .wide { overflow: visible; } table { font-size: 11px; }
  th, td { padding: 3px 8px 3px 0; } td { white-space: normal; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""
)
