"""What the page of a sweep adds to how all pages look, and the script that sorts its tables."""

from udt_cluster.pages import STYLE

CSS = (
    STYLE
    + """
p { margin: 0 0 10px; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; margin: 0; }
.verdict { padding: 10px 16px; border-radius: 8px; font-weight: 600; margin: 0; }
.card, details { margin: 0 0 14px; min-width: 0; }
details .card { border: 0; padding: 0; margin: 0; }
details[open] summary { margin-bottom: 8px; }
td { vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td { border-bottom: 0; }
.board td { white-space: nowrap; }
.board .best td { font-weight: 650; }
.board .best td:first-child::before { content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 7px;
  background: var(--passed); transform: rotate(45deg); }
th button { all: unset; cursor: pointer; color: inherit; font: inherit; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after { content: "\\2195"; opacity: .45; margin-left: 3px; font-size: 11px; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
.tag { display: inline-block; border-radius: 5px; padding: 0 7px; font-size: 12px; font-weight: 650;
  background: var(--note-soft); color: var(--note); }
.tag.finished { background: var(--passed-soft); color: var(--passed); }
.tag.diverged, .tag.failed { background: var(--warning-soft); color: var(--warning); }
.track { background: var(--soft); border-radius: 5px; min-width: 90px; width: 100%; overflow: hidden; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 14px; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.grid > .card { margin: 0; }
.grid + .card { margin-top: 14px; }
figcaption p { margin: 6px 0 0; }
figcaption { font-size: 13px; color: var(--faint); margin-top: 6px; }
figcaption a { margin-right: 8px; }
svg, figure img { width: 100%; height: auto; display: block; overflow: visible; }
.wide svg, .wide img { min-width: 900px; }
.small svg, .small img { max-width: 430px; }
td code { white-space: nowrap; }
svg text { font-family: system-ui, "Segoe UI", Roboto, sans-serif; }
svg [id*=tips-] :hover { stroke: var(--ink); stroke-opacity: 1; }
@media print { body { background: #fff; } .card, figure { break-inside: avoid; } .wide { overflow: visible; }
  .wide svg { min-width: 0; } th button::after { content: none; } }
"""
)
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
