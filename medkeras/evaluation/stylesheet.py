"""The look of a report: one style sheet, light and dark, on screen and on paper."""

from __future__ import annotations

from medkeras.evaluation import figures

_DARK_SERIES = ("#4ea8e0", "#f08648", "#3fc49a", "#e29fc6", "#f0b73e", "#8fd0f5", "#a9afb8")


def _series(colors: tuple[str, ...]) -> str:
    return "".join(f"--series-{i}:{color};" for i, color in enumerate(colors))


_LIGHT = (
    f"--ink:{figures.INK};--muted:{figures.MUTED};--grid:{figures.GRID};--page:#f5f6f8;--card:#ffffff;--line:#dfe3e8;"
    "--accent:#0072b2;--link:#00629b;--band:#0072b277;--track:#e8ebef;--note:#fff6e2;--note-line:#e69f00;--shade:#f7f8fa;"
    f"color-scheme:light;{_series(figures.SERIES)}"
)
_DARK = (
    "--ink:#e6e9ed;--muted:#9aa4b0;--grid:#2c333c;--page:#0f1318;--card:#171c22;--line:#2b323b;"
    "--accent:#4ea8e0;--link:#6cbcf0;--band:#4ea8e088;--track:#262d35;--note:#2a2415;--note-line:#d99a1c;--shade:#1c2229;"
    f"color-scheme:dark;{_series(_DARK_SERIES)}"
)

CSS = (
    f"""
:root {{ {_LIGHT} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
"""
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 20px 24px; }
h1 { font-size: 30px; line-height: 1.2; margin: 4px 0 10px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 44px 0 6px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 0 0 2px; }
p { margin: 0 0 12px; max-width: 76ch; }
.eyebrow { color: var(--muted); font-size: 13px; letter-spacing: 0.06em; text-transform: uppercase; margin: 0; }
.lead { font-size: 17px; max-width: none; }
.muted, figcaption { color: var(--muted); font-size: 13.5px; }
p.muted { max-width: 110ch; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 16px;
  margin: 24px 0 16px; }
.headline .value { font-size: 36px; font-weight: 650; line-height: 1.15; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.headline .name { color: var(--muted); font-size: 13.5px; }
.note { background: var(--note); border: 1px solid var(--note-line); border-left-width: 5px; border-radius: 8px;
  padding: 12px 18px; margin: 16px 0; overflow-wrap: anywhere; }
.note ul { margin: 4px 0 0; padding-left: 20px; }
.note li { margin: 2px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 600; overflow-wrap: break-word; max-width: 40ch; }
td.number, th.number { text-align: right; padding-right: 18px; white-space: nowrap; }
td:first-child, th { overflow-wrap: anywhere; }
thead th { color: var(--muted); font-size: 13px; font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
td small { display: block; color: var(--muted); font-size: 12px; line-height: 1.3; }
.summary { margin: 0 0 14px; padding-left: 20px; }
.summary li { margin: 3px 0; max-width: 110ch; overflow-wrap: anywhere; }
ul.plain, ul.muted { margin: 4px 0 0; padding-left: 20px; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 20px 0 0; padding: 12px 0 0;
  border-top: 1px solid var(--line); font-size: 13.5px; }
a { color: var(--link); }
details > summary { cursor: pointer; font-weight: 600; font-size: 14px; }
details[open] > summary { margin-bottom: 10px; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.tag { display: inline-block; border: 1px solid var(--note-line); background: var(--note); color: var(--ink);
  border-radius: 4px; padding: 0 6px; margin-top: 3px; font-size: 12px; }
.tag.plain { border-color: var(--line); background: none; color: var(--muted); }
.wide tbody th { white-space: nowrap; }
.items th:first-child { width: 4em; }
.items td:nth-child(2) { width: 34%; }
.items td, .items tbody th { padding-top: 4px; padding-bottom: 4px; font-size: 13.5px; overflow-wrap: anywhere; }
.bar { display: block; width: 150px; height: 14px; }
.headline .bar { width: 100%; max-width: 200px; height: auto; margin-top: 6px; }
.scale { display: flex; justify-content: space-between; width: 150px; }
.scale.small { color: var(--muted); font-size: 10.5px; line-height: 1; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 16px;
  margin-top: 14px; }
.stack { display: grid; grid-template-columns: minmax(0, 1fr); gap: 16px; margin-top: 14px; }
.pair > * { min-width: 0; }
figure { margin: 0; }
.pair > figure { display: flex; flex-direction: column; }
.pair > figure svg { margin-top: auto; padding-top: 10px; }
figure svg { display: block; max-width: 100%; height: auto; margin: 10px auto 0; }
figure svg * { stroke-linejoin: round; }
figure svg text { font-family: inherit !important; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px;
  margin-top: 14px; }
.mistakes .card { padding: 12px; }
.views { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
.views img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; border-radius: 5px; display: block; }
.views.one { grid-template-columns: 1fr; }
.views.one img { width: calc(50% - 3px); margin: 0 auto; }
img.small { image-rendering: pixelated; }
.mistakes figcaption { margin-top: 8px; overflow-wrap: anywhere; }
.mistakes figcaption b { color: var(--ink); font-weight: 600; }
.facts { columns: 3 300px; column-gap: 36px; margin: 0; }
.facts div { display: flex; justify-content: space-between; gap: 16px; padding: 3px 0; font-size: 13.5px;
  border-bottom: 1px solid var(--line); break-inside: avoid; }
.facts dt { color: var(--muted); flex: none; }
.facts dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
footer { color: var(--muted); font-size: 13px; border-top: 1px solid var(--line); margin-top: 48px; padding-top: 14px; }
@media screen and (max-width: 760px) { tbody th { min-width: 6.5em; } .wide tbody th { white-space: normal; }
  .wide tr > :nth-child(n + 4) { display: none; } main { padding: 24px 14px; } }
@media screen and (max-width: 480px) { #subgroups figure { overflow-x: auto; }
  #subgroups figure svg { max-width: none; zoom: 0.62; } }
@page { size: A4; margin: 13mm 12mm; }
@media print {
  body { background: #fff; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; zoom: 0.66; }
  h2 { margin-top: 28px; }
  h2, h3, h2 + p { break-after: avoid; }
  figure, .note, tr, .headline { break-inside: avoid; }
  .scroll { overflow: visible; }
  nav { display: none; }
  #ranking, #operating, #sets, #refusal, #gate, #explanations, #training, #data, #data-check, #limits {
    break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { list-style: none; }
  .pair { grid-template-columns: 1fr 1fr; }
  .mistakes { grid-template-columns: repeat(3, 1fr); }
}
"""
)
