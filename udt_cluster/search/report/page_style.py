"""How the page of a sweep looks, as the page of a data check does: light and dark, on paper, on a narrow screen."""

CSS = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1d2433; --faint: #616b7c; --line: #dfe2e8;
  --accent: #2463b8; --bar: #5b8fd0; --soft: #dbe6f4; --refused: #b3261e; --warning: #8a5a00; --passed: #17694a;
  --warning-soft: #fdf1d8; --note: #46536a; --note-soft: #eceff4; --passed-soft: #e0f2ea;
  --step-1: #cfdcec; --step-2: #aac5e6; --step-3: #7fa8dc; --step-4: #4d82cc; --step-5: #1f5cae; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --card: #1b212b; --ink: #e8ebf0; --faint: #9aa5b6;
  --line: #303846; --accent: #86b4f2; --bar: #6f9fdd; --soft: #273650; --refused: #ff9389; --warning: #f2c25c;
  --passed: #7fd6ae; --warning-soft: #3a2f18; --note: #b3bfd0; --note-soft: #283040; --passed-soft: #18352a;
  --step-1: #2c3a50; --step-2: #3a5277; --step-3: #4a70a8; --step-4: #6394d8; --step-5: #a5c9fb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main, header, footer { max-width: 1128px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 8px; color: var(--faint); font-weight: 600; overflow-wrap: anywhere; }
p { margin: 0 0 10px; overflow-wrap: anywhere; }
code, pre { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; margin: 0; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 16px; top: 8px; background: var(--card); padding: 6px 12px; }
.faint { color: var(--faint); }
.source { margin: 0 0 16px; color: var(--faint); }
.verdict { padding: 10px 16px; border-radius: 8px; font-weight: 600; margin: 0; }
.warning { background: var(--warning-soft); color: var(--warning); }
.note { background: var(--note-soft); color: var(--note); }
.passed { background: var(--passed-soft); color: var(--passed); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px; padding: 0;
  margin: 20px 0 0; list-style: none; }
.tiles li, .card, details { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; }
.tiles b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; line-height: 1.2;
  white-space: nowrap; }
.tiles span { color: var(--faint); font-size: 13px; }
.card, details { margin: 0 0 14px; min-width: 0; }
.wide { overflow-x: auto; }
details .card { border: 0; padding: 0; margin: 0; }
summary { cursor: pointer; font-weight: 600; }
details[open] summary { margin-bottom: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--faint); font-size: 13px; vertical-align: bottom; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td { border-bottom: 0; }
.board td { white-space: nowrap; }
.board .best td { font-weight: 650; }
.board .best td:first-child::before { content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 7px;
  background: var(--passed); transform: rotate(45deg); }
.number { text-align: right; }
th button { all: unset; cursor: pointer; color: inherit; font: inherit; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after { content: "\\2195"; opacity: .45; margin-left: 3px; font-size: 11px; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
.tag { display: inline-block; border-radius: 5px; padding: 0 7px; font-size: 12px; font-weight: 650;
  background: var(--note-soft); color: var(--note); }
.tag.finished { background: var(--passed-soft); color: var(--passed); }
.tag.diverged, .tag.failed { background: var(--warning-soft); color: var(--warning); }
.bar { display: block; height: 9px; border-radius: 5px; background: var(--bar); min-width: 2px; }
.track { background: var(--soft); border-radius: 5px; min-width: 90px; width: 100%; overflow: hidden; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 14px; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.grid > .card { margin: 0; }
.grid + .card { margin-top: 14px; }
figcaption p { margin: 6px 0 0; }
figure { margin: 0; }
figcaption { font-size: 13px; color: var(--faint); margin-top: 6px; }
figcaption a { margin-right: 8px; }
svg, figure img { width: 100%; height: auto; display: block; overflow: visible; }
.wide svg, .wide img { min-width: 900px; }
.small svg, .small img { max-width: 430px; }
td code { white-space: nowrap; }
svg text { font-family: system-ui, "Segoe UI", Roboto, sans-serif; }
svg [id*=tips-] :hover { stroke: var(--ink); stroke-opacity: 1; }
footer { color: var(--faint); font-size: 13px; margin-top: 44px; padding-bottom: 40px; }
@media (max-width: 620px) { main, header, footer { padding: 0 14px; } header { padding-top: 20px; } }
@media print { body { background: #fff; } .card, figure { break-inside: avoid; } .wide { overflow: visible; }
  .wide svg { min-width: 0; } th button::after { content: none; } }
"""
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent;
  const compare = (one, other) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    const left = Number(one), right = Number(other);
    return Number.isNaN(left) || Number.isNaN(right) ? one.localeCompare(other) : left - right;
  };
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a, at), y = value(b, at);
        return up || x === "" || y === "" ? compare(x, y) : compare(y, x);
      });
      body.append(...rows);
    });
  });
}
"""
