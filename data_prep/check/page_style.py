"""What the page of a check adds to how all pages look."""

from udt_cluster.pages import STYLE

CSS = (
    STYLE
    + """
.verdict { display: inline-block; padding: 6px 14px; border-radius: 8px; font-weight: 600; }
.findings { list-style: none; margin: 0; padding: 0; display: grid; gap: 10px; }
.finding { display: flex; gap: 18px; align-items: flex-start; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.finding > div { flex: 1; min-width: 0; }
.finding p { margin: 0; overflow-wrap: anywhere; }
.finding p + p { margin-top: 2px; }
.finding img { flex: none; border-radius: 6px; max-width: 46%; max-height: 176px; background: var(--note-soft); }
.finding .remedy { color: var(--faint); }
.finding .remedy::before { content: "\\2192\\00a0"; }
.where { font-weight: 600; }
.tag { display: inline-block; border-radius: 5px; padding: 0 7px; font-size: 12px; font-weight: 650; margin-right: 6px;
  font-variant-numeric: tabular-nums; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
details .findings { margin-top: 10px; }
details .finding { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 10px 0 4px; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px;
  border: 1px solid rgb(127 127 127 / .5); }
.track { background: var(--soft); border-radius: 5px; min-width: 120px; width: 100%; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 14px; }
svg text { fill: var(--faint); font: 11px system-ui, "Segoe UI", Roboto, sans-serif; }
svg .fill { fill: var(--bar); }
 svg .soft { fill: var(--soft); }
 svg .line { stroke: var(--faint); }
svg .ink { fill: var(--ink); }
 svg .mean { stroke: var(--ink); stroke-width: 2; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; margin: 0;
  padding: 0; list-style: none; }
.samples figure { margin: 0; }
 .samples img { width: 100%; border-radius: 6px; display: block; }
figcaption { font-size: 12px; color: var(--faint); overflow-wrap: anywhere; margin-top: 3px; }
@media (max-width: 620px) { .finding { flex-direction: column; } .finding img { max-width: 100%; } }
@media print { body { background: #fff; } .finding, .card { break-inside: avoid; } }
"""
)
