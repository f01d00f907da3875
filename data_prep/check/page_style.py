"""How the page of a check looks: one style sheet, light and dark, no script."""

CSS = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1d2433; --faint: #616b7c; --line: #dfe2e8;
  --accent: #2463b8; --bar: #5b8fd0; --soft: #dbe6f4;
  --refused: #b3261e; --refused-soft: #fbe9e7; --warning: #8a5a00; --warning-soft: #fdf1d8; --note: #46536a;
  --note-soft: #eceff4; --passed: #17694a; --passed-soft: #e0f2ea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --card: #1b212b; --ink: #e8ebf0; --faint: #9aa5b6;
  --line: #303846; --accent: #86b4f2; --bar: #6f9fdd; --soft: #273650; --refused: #ff9389; --refused-soft: #402022;
  --warning: #f2c25c; --warning-soft: #3a2f18; --note: #b3bfd0; --note-soft: #283040; --passed: #7fd6ae;
  --passed-soft: #18352a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 8px; color: var(--faint); font-weight: 600; }
code { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 16px; top: 8px; background: var(--card); padding: 6px 12px; }
.faint { color: var(--faint); }
.source { margin: 0 0 16px; color: var(--faint); }
.verdict { display: inline-block; padding: 6px 14px; border-radius: 8px; font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(116px, 1fr)); gap: 10px; padding: 0;
  margin: 20px 0 0; list-style: none; }
.tiles li, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.tiles b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; line-height: 1.2;
  white-space: nowrap; }
.tiles span { color: var(--faint); font-size: 13px; }
.refused { background: var(--refused-soft); color: var(--refused); }
.warning { background: var(--warning-soft); color: var(--warning); }
.note { background: var(--note-soft); color: var(--note); }
.passed { background: var(--passed-soft); color: var(--passed); }
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
summary { cursor: pointer; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--faint); font-size: 13px; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px;
  border: 1px solid rgb(127 127 127 / .5); }
.bar { display: block; height: 9px; border-radius: 5px; background: var(--bar); min-width: 2px; }
.track { background: var(--soft); border-radius: 5px; min-width: 120px; width: 100%; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 14px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font: 11px system-ui, "Segoe UI", Roboto, sans-serif; }
svg .fill { fill: var(--bar); } svg .soft { fill: var(--soft); } svg .line { stroke: var(--faint); }
svg .ink { fill: var(--ink); } svg .mean { stroke: var(--ink); stroke-width: 2; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; margin: 0;
  padding: 0; list-style: none; }
.samples figure { margin: 0; } .samples img { width: 100%; border-radius: 6px; display: block; }
figcaption { font-size: 12px; color: var(--faint); overflow-wrap: anywhere; margin-top: 3px; }
footer { color: var(--faint); font-size: 13px; margin-top: 44px; padding-bottom: 40px; }
@media (max-width: 620px) { .finding { flex-direction: column; } .finding img { max-width: 100%; } }
@media print { body { background: #fff; } .finding, .card { break-inside: avoid; } }
"""
