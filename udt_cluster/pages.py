"""How every page of ours looks: one palette, light and dark, and the rules that all pages share.

A page is one file without network and, but for sorting a table, without script. It appends what it alone needs.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1d2433; --faint: #616b7c; --line: #dfe2e8;
  --accent: #2463b8; --bar: #5b8fd0; --soft: #dbe6f4; --refused: #b3261e; --refused-soft: #fbe9e7; --warning: #8a5a00;
  --warning-soft: #fdf1d8; --note: #46536a; --note-soft: #eceff4; --passed: #17694a; --passed-soft: #e0f2ea;
  --gain: #2463b8; --loss: #b4500b;
  --step-1: #cfdcec; --step-2: #aac5e6; --step-3: #7fa8dc; --step-4: #4d82cc; --step-5: #1f5cae; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --card: #1b212b; --ink: #e8ebf0; --faint: #9aa5b6;
  --line: #303846; --accent: #86b4f2; --bar: #6f9fdd; --soft: #273650; --refused: #ff9389; --refused-soft: #402022;
  --warning: #f2c25c; --warning-soft: #3a2f18; --note: #b3bfd0; --note-soft: #283040; --passed: #7fd6ae;
  --passed-soft: #18352a; --gain: #86b4f2; --loss: #f2a05c;
  --step-1: #2c3a50; --step-2: #3a5277; --step-3: #4a70a8; --step-4: #6394d8; --step-5: #a5c9fb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 8px; color: var(--faint); font-weight: 600; overflow-wrap: anywhere; }
code, pre { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 16px; top: 8px; background: var(--card); padding: 6px 12px; }
.faint { color: var(--faint); }
.source { margin: 0 0 16px; color: var(--faint); }
.refused { background: var(--refused-soft); color: var(--refused); }
.warning { background: var(--warning-soft); color: var(--warning); }
.note { background: var(--note-soft); color: var(--note); }
.passed { background: var(--passed-soft); color: var(--passed); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(116px, 1fr)); gap: 10px; padding: 0;
  margin: 20px 0 0; list-style: none; }
.tiles li, .card, details { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; }
.tiles b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; line-height: 1.2; white-space: nowrap; }
.tiles span { color: var(--faint); font-size: 13px; }
summary { cursor: pointer; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--faint); font-size: 13px; vertical-align: bottom; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; }
.bar { display: block; height: 9px; border-radius: 5px; background: var(--bar); min-width: 2px; }
.track { background: var(--soft); border-radius: 5px; min-width: 90px; width: 100%; }
.wide { overflow-x: auto; }
figure { margin: 0; }
svg { width: 100%; height: auto; display: block; }
footer { color: var(--faint); font-size: 13px; margin-top: 44px; padding-bottom: 40px; }
@media (max-width: 620px) { main, header, footer { padding: 0 14px; } header { padding-top: 20px; } }
@media print { body { background: #fff; } .card, figure { break-inside: avoid; } .wide { overflow: visible; } }
"""
"""A style sheet."""
