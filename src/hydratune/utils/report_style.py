"""Style sheet and scripts of HTML reports, which are complete in one file and need no network."""

from __future__ import annotations

import base64
import functools
import gzip
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

CSS = """
:root { color-scheme: light dark; --text: #1c2733; --muted: #5b6876; --line: #d7dde4; --page: #ffffff;
  --panel: #f6f8fa; --accent: #1f5fbf; --best: #0b7a3e; --bad: #b3261e; }
@media screen and (prefers-color-scheme: dark) { :root { --text: #e4e9ef; --muted: #9aa7b5; --line: #37424f;
  --page: #12171d; --panel: #1a2129; --accent: #7fb0ff; --best: #5fd08f; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 3rem; max-width: 84rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 75ch; overflow-wrap: anywhere; }
p.lead { font-size: 1.1rem; }
.muted, caption { color: var(--muted); }
.scroll { overflow: auto; max-height: 36rem; border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0 1rem;
  width: fit-content; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
td { overflow-wrap: anywhere; max-width: 34rem; white-space: pre-wrap; }
thead th { position: sticky; top: 0; background: var(--panel); font-weight: 600;
  vertical-align: bottom; }
tbody th { font-weight: 500; color: var(--muted); white-space: nowrap; }
td.short { white-space: nowrap; }
td.name { overflow-wrap: break-word; }
td.long, .clipped { min-width: clamp(13rem, 25vw, 24rem); }
.clipped { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
.clipped:focus { -webkit-line-clamp: none; }
th.number, td.number { text-align: right; white-space: nowrap; }
th.sortable { cursor: pointer; }
th.sortable::after { content: "\\00a0\\2195"; color: var(--muted); font-weight: 400; }
th[aria-sort=ascending]::after { content: "\\00a0\\2191"; color: var(--text); }
th[aria-sort=descending]::after { content: "\\00a0\\2193"; color: var(--text); }
tr.best td { font-weight: 600; color: var(--best); }
tr.failed td { color: var(--bad); }
tr.pruned td, tr.waiting td { color: var(--muted); }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem;
  overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.45 ui-monospace, Menlo, "DejaVu Sans Mono", Consolas, monospace; }
a { color: var(--accent); }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption { font-weight: 600; }
.plot { width: 100%; }
img.thumbnail { width: 48px; height: 48px; object-fit: contain; image-rendering: pixelated; vertical-align: middle; }
@media (max-width: 1000px) { th, td { padding: .25rem .35rem; font-size: .87rem; }
  td.short { white-space: pre-wrap; overflow-wrap: break-word; } td.long, .clipped { min-width: 8.5rem; }
  .clipped { -webkit-line-clamp: 4; } th.sortable:not([aria-sort])::after { content: none; } }
@media print { body { max-width: none; padding: 0; font-size: 12px; } .scroll { max-height: none; overflow: visible; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } thead th { position: static; }
  .clipped { display: block; } th.sortable::after { content: ""; } .figures { grid-template-columns: 1fr 1fr; } }
"""

# Colors that are visible on white and on dark pages (Observable 10, with a darker yellow).
COLORS = (
    *("#4269d0", "#d98b06", "#e4573d", "#2ba39b", "#3ca951"),
    *("#e0629f", "#a463f2", "#5a9bea", "#9c6b4e", "#8a9099"),
)
MUTED = "#8a9099"
_LIGHT = {"text": "#1c2733", "line": "#d7dde4", "scale": [[0, "#eef3fb"], [0.5, "#6f9bd8"], [1, "#123d82"]]}
_DARK = {"text": "#e4e9ef", "line": "#37424f", "scale": [[0, "#1d2a3c"], [0.5, "#3f74bd"], [1, "#b9d7ff"]]}


def _template(theme: Mapping[str, object]) -> dict[str, object]:
    """Return the plotly template of a theme, whose values apply to what a figure does not set by itself."""
    axis = {
        "gridcolor": theme["line"],
        "linecolor": theme["line"],
        "zerolinecolor": theme["line"],
        "automargin": True,
        "showline": True,
        "ticks": "outside",
        "tickcolor": theme["line"],
        "title": {"standoff": 8},
    }
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": theme["text"], "size": 12, "family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"},
        "colorway": [*COLORS],
        "xaxis": {**axis, "exponentformat": "none", "separatethousands": True},
        "yaxis": {**axis, "exponentformat": "e", "minexponent": 4},
        "margin": {"l": 55, "r": 15, "t": 15, "b": 45},
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
    }
    return {"layout": layout, "data": {"heatmap": [{"colorscale": theme["scale"]}]}}


SCRIPT = f"""
const templates = {{light: {json.dumps(_template(_LIGHT))}, dark: {json.dumps(_template(_DARK))}}};
const isDark = matchMedia("(prefers-color-scheme: dark)");
let isPrinting = false;
function draw() {{
  if (typeof Plotly === "undefined") return;
  const template = templates[isDark.matches && !isPrinting ? "dark" : "light"];
  for (const plot of document.querySelectorAll(".plot")) {{
    const figure = JSON.parse(plot.nextElementSibling.textContent);
    figure.layout.template = template;
    Plotly.react(plot, figure.data, figure.layout, {{responsive: true, displayModeBar: false}});
  }}
}}
async function load() {{
  const code = document.getElementById("plotly");
  if (!code) return;
  const bytes = Uint8Array.from(atob(code.textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
  draw();
  document.body.dataset.ready = "yes";
}}
function sortBy(header) {{
  const table = header.closest("table"), place = header.cellIndex, body = table.tBodies[0];
  const order = header.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent;
  const compare = (a, b) => (a === "") - (b === "") || sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
}}
for (const header of document.querySelectorAll("th.sortable")) {{
  header.tabIndex = 0;
  header.addEventListener("click", () => sortBy(header));
  header.addEventListener("keydown", (event) => {{ if (event.key === "Enter") sortBy(header); }});
}}
isDark.addEventListener("change", draw);
addEventListener("beforeprint", () => {{ isPrinting = true; draw(); }});
addEventListener("afterprint", () => {{ isPrinting = false; draw(); }});
load();
"""


@functools.cache
def plotly_code() -> str:
    """Return the code of plotly.js, compressed by gzip to a third of its 4.8 MB, as base64."""
    spec = importlib.util.find_spec("plotly")
    assert spec and spec.submodule_search_locations  # a dependency
    code = Path(spec.submodule_search_locations[0], "package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(code, 5, mtime=0)).decode()
