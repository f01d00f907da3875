"""How the page of a study looks: one style sheet, light and dark, no script; the same as that of a data check."""

from udt_cluster.studies.drawing import color_rules

CSS = (
    color_rules()
    + """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1d2433; --faint: #616b7c; --line: #dfe2e8;
  --accent: #2463b8; --soft: #dbe6f4; --warning: #8a5a00; --warning-soft: #fdf1d8; --note: #46536a;
  --note-soft: #eceff4; --passed: #17694a; --passed-soft: #e0f2ea; --gain: #2463b8; --loss: #b4500b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --card: #1b212b; --ink: #e8ebf0; --faint: #9aa5b6;
  --line: #303846; --accent: #86b4f2; --soft: #273650; --warning: #f2c25c; --warning-soft: #3a2f18; --note: #b3bfd0;
  --note-soft: #283040; --passed: #7fd6ae; --passed-soft: #18352a; --gain: #86b4f2; --loss: #f2a05c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 8px; color: var(--faint); font-weight: 600; }
p { margin: 0 0 8px; max-width: 78ch; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 16px; top: 8px; background: var(--card); padding: 6px 12px; }
.faint, .study { color: var(--faint); }
.study { margin: 0 0 16px; }
.verdict { display: block; padding: 12px 16px; border-radius: 10px; font-size: 17px; font-weight: 600;
  max-width: none; }
.warning { background: var(--warning-soft); color: var(--warning); }
.note { background: var(--note-soft); color: var(--note); }
.passed { background: var(--passed-soft); color: var(--passed); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(124px, 1fr)); gap: 10px; padding: 0;
  margin: 16px 0 0; list-style: none; }
.tiles li, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.card + .card, .card + details, details + details, details + .card { margin-top: 14px; }
.tiles li { padding: 12px 10px; }
.tiles b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; line-height: 1.2; white-space: nowrap; }
.tiles span { color: var(--faint); font-size: 13px; }
.also { margin: 12px 0 14px; padding-left: 20px; max-width: 90ch; }
.also li { margin-bottom: 3px; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
details > *:not(summary) { margin-top: 10px; }
summary { cursor: pointer; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--faint); font-size: 13px; vertical-align: bottom; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
td { white-space: nowrap; }
td:first-child { white-space: normal; min-width: 8em; }
th:last-child, td:last-child { padding-right: 2px; }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; }
tr.gain td:last-child { color: var(--gain); font-weight: 600; }
tr.loss td:last-child { color: var(--loss); font-weight: 600; }
figure { margin: 0; }
svg { width: 100%; height: auto; display: block; margin: 0 auto; }
svg text { font-family: system-ui, "Segoe UI", Roboto, sans-serif; }
footer { color: var(--faint); font-size: 13px; margin-top: 44px; padding-bottom: 40px; }
@media (max-width: 620px) { main, header, footer { padding: 0 14px; } .card, details { padding: 10px; }
  .verdict { font-size: 16px; } figure { overflow-x: auto; } figure svg { min-width: 540px; } }
@media print { body { background: #fff; font-size: 12px; } .card, figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .wide { overflow: visible; } table { font-size: 11px; }
  th, td { padding: 3px 8px 3px 0; } td { white-space: normal; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""
)
