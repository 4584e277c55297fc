"""The page around a gallery: its style sheet, its script, its frame. Nothing in it is fetched from anywhere."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header class="top">
<h1>{title}</h1>
<p>{subtitle}</p>
{progress}
<p class="hint">Click an image of a row, or double-click a slider, to see it large; ← and → flick through, Esc
closes.</p>
</header>
<form id="filters" class="card" hidden>
<input type="search" name="name" placeholder="name contains" aria-label="name contains">
<select name="outcome" aria-label="what became of the reward"><option value="">any outcome of a sweep</option></select>
<span>reward's score <input type="number" step="any" name="low" placeholder="from" aria-label="least score">
<input type="number" step="any" name="high" placeholder="to" aria-label="greatest score"></span>
<output></output><button type="reset">show all</button>
<fieldset></fieldset>
</form>
{body}
</main>
<dialog id="large"><img alt=""><p></p></dialog>
<script>{script}</script>
</body>
</html>
"""

STYLE = """
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #ffffff; --text: #16202c; --soft: #5b6877; --line: #dfe4ea;
  --accent: #1f6feb; --good: #1a7f4b; --bad: #b3372c; --shade: rgba(20, 30, 45, .07);
  --frame: #e9edf1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0f141a; --card: #171e26; --text: #e4e9ef; --soft: #94a1b0; --line: #2a343f;
    --accent: #6aa8ff; --good: #5cc98d; --bad: #f08a7e; --shade: rgba(0, 0, 0, .3);
    --frame: #0b0f14;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body {
  margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1360px; margin: 0 auto; padding: 40px 24px 32px; }
.top h1 { margin: 0; font-size: 28px; letter-spacing: -.01em; overflow-wrap: anywhere; }
.top p { margin: 4px 0 0; color: var(--soft); }
.top .hint { font-size: 13px; }
section { margin-top: 36px; }
h2 { margin: 0 0 4px; font-size: 19px; }
h3 { margin: 22px 0 8px; font-size: 13px; font-weight: 600; color: var(--soft); }
.lead { margin: 0 0 14px; color: var(--soft); max-width: 80ch; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; box-shadow: 0 1px 3px var(--shade);
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; }
.tile { padding: 14px 16px; }
.tile b { display: block; font-size: 24px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.tile em { font-style: normal; font-size: 13px; color: var(--good); }
.tile em.worse { color: var(--bad); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 16px; text-align: right; border-top: 1px solid var(--line); white-space: nowrap; }
tr:first-child > * { border-top: 0; }
th { font-weight: 600; font-size: 13px; color: var(--soft); }
th:first-child, td:first-child { text-align: left; }
tr.best td { font-weight: 650; }
dl {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 4px 24px; margin: 0;
  padding: 14px 16px;
}
dl div { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; }
dt { color: var(--soft); }
dt, dd { min-width: 0; max-width: 100%; overflow-wrap: break-word; }
dd { margin: 0 0 0 auto; text-align: right; }
#filters {
  position: sticky; top: 8px; z-index: 2; display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center;
  margin-top: 20px; padding: 10px 12px; color: var(--soft); font-size: 13px;
}
#filters output { margin-left: auto; font-variant-numeric: tabular-nums; }
#filters fieldset { display: flex; flex-wrap: wrap; gap: 4px 14px; flex-basis: 100%; border: 0; margin: 0; padding: 0; }
#filters fieldset label { display: flex; gap: 5px; align-items: center; color: var(--text); cursor: pointer; }
#filters [type=number] { width: 70px; }
#filters [type=search] { width: 170px; }
.rows { display: grid; gap: 14px; }
.contact .rows { grid-template-columns: repeat(auto-fill, minmax(min(290px, 100%), 1fr)); }
.row { padding: 12px; min-width: 0; }
.row > header, .pair > header {
  display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: baseline; margin: 0 2px 8px;
}
.name { font-weight: 600; overflow-wrap: anywhere; }
.chip {
  font-size: 12.5px; color: var(--soft); border: 1px solid var(--line); border-radius: 99px; padding: 0 9px;
  font-variant-numeric: tabular-nums; white-space: nowrap;
}
.chip .up { color: var(--good); } .chip .down { color: var(--bad); }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 10px; }
figure { margin: 0; }
figure img, .compare img {
  display: block; width: 100%; height: auto; aspect-ratio: 4 / 3; object-fit: contain; border-radius: 8px;
  background: var(--frame);
}
figure img { cursor: zoom-in; }
figcaption { margin: 5px 2px 0; font-size: 13px; color: var(--soft); }
figcaption b { color: var(--text); font-weight: 600; }
.absent {
  display: grid; place-items: center; aspect-ratio: 4 / 3; color: var(--soft);
  border: 1px dashed var(--line); border-radius: 8px; font-size: 13px; padding: 12px; text-align: center;
}
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(400px, 100%), 1fr)); gap: 14px; }
.pair { padding: 12px; }
.compare { --at: 50%; position: relative; overflow: hidden; border-radius: 8px; }
.compare img.after { position: absolute; inset: 0; height: 100%; clip-path: inset(0 0 0 var(--at)); }
.compare::after {
  content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 4px rgba(0, 0, 0, .6); pointer-events: none;
}
.compare i {
  position: absolute; bottom: 8px; padding: 1px 8px; border-radius: 5px; font: 12px/1.6 inherit; font-style: normal;
  font-size: 12px; background: rgba(10, 15, 22, .62); color: #fff; pointer-events: none;
}
.compare i:first-of-type { left: 8px; } .compare i:last-of-type { right: 8px; }
.compare input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.compare:focus-within { outline: 2px solid var(--accent); outline-offset: 2px; }
.bar { display: flex; gap: 8px; align-items: center; margin: 0 0 12px; color: var(--soft); font-size: 13px; }
select, button, #filters input:not([type=checkbox]) {
  font: inherit; color: var(--text); background: var(--card); border: 1px solid var(--line); border-radius: 7px;
  padding: 3px 6px; max-width: 100%;
}
@media (max-width: 600px) {
  main { padding: 20px 12px; }
  #filters { position: static; }
  table, tbody, tr, td { display: block; border: 0; }
  tr:first-child { display: none; }
  tr { display: grid; grid-template-columns: 1fr 1fr; padding: 10px 16px; gap: 2px 16px; }
  tr + tr + tr { border-top: 1px solid var(--line); }
  td { padding: 0; }
  td:first-child { grid-column: 1 / -1; white-space: normal; }
  td[data-name] { display: flex; justify-content: space-between; }
  td[data-name]::before { content: attr(data-name); font-weight: 400; font-size: 13px; color: var(--soft); }
}
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
.chart { padding: 12px 14px 8px; }
.chart p { display: flex; justify-content: space-between; margin: 0 0 4px; font-size: 13px; color: var(--soft); }
.chart p b { color: var(--text); font-variant-numeric: tabular-nums; }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { font-size: 10px; fill: var(--soft); }
.chart .line { fill: none; stroke: var(--accent); stroke-width: 1.6; stroke-linejoin: round; }
.chart circle { fill: var(--accent); }
.chart .grid { stroke: var(--line); }
.chart .band { fill: var(--accent); }
.chart .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
dialog { border: 0; padding: 0; background: transparent; max-width: 98vw; max-height: 98vh; }
dialog::backdrop { background: rgba(5, 8, 12, .88); }
dialog img { display: block; max-width: 96vw; max-height: 90vh; min-width: min(900px, 96vw); object-fit: contain; }
dialog p { color: #e8ecf1; text-align: center; margin: 8px 0 0; }
progress { width: 100%; height: 8px; margin-top: 10px; accent-color: var(--accent); }
"""

SCRIPT = """
for (const slider of document.querySelectorAll('.compare input'))
  slider.addEventListener('input', () => slider.parentElement.style.setProperty('--at', slider.value + '%'));

const dialog = document.getElementById('large');
let row = [], at = 0;
function show(index) {
  at = (index + row.length) % row.length;
  dialog.querySelector('img').src = row[at].src;
  dialog.querySelector('p').textContent = row[at].alt;
}
document.addEventListener('click', event => {
  if (dialog.open) return dialog.close();
  const image = event.target.closest('figure')?.querySelector('img');
  if (!image || event.target !== image) return;
  const around = document.body.classList.contains('contact') ? document : image.closest('.row');
  row = [...around.querySelectorAll('.row:not([hidden]) figure:not([hidden]) img')];
  show(row.indexOf(image));
  dialog.showModal();
});
for (const pair of document.querySelectorAll('.pair')) pair.addEventListener('dblclick', () => {
  row = [...pair.querySelectorAll('.compare img')];
  show(1);
  dialog.showModal();
});
document.addEventListener('keydown', event => {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (dialog.open && step) { event.preventDefault(); show(at + step); }
});
for (const select of document.querySelectorAll('.bar select')) select.addEventListener('change', () => {
  const pairs = select.closest('section').querySelector('.pairs');
  const [key, sign] = [select.value.slice(1), select.value[0] === '-' ? -1 : 1];
  const value = pair => Number(pair.dataset[key]);
  pairs.append(...[...pairs.children].sort((a, b) => sign * (value(a) - value(b))));
});

// The filters offer what the page holds: the kinds of its images, and the outcomes and scores of its cards.
const filters = document.getElementById('filters');
const cards = [...document.querySelectorAll('.row, .pair')];
const kindOf = image => image.dataset.kind ?? 'before and after';
const imagesOf = card => [...card.querySelectorAll('figure, .compare')];
const distinct = values => [...new Set(values)].filter(Boolean);
for (const kind of distinct(cards.flatMap(imagesOf).map(kindOf))) {
  const label = document.createElement('label'), box = document.createElement('input');
  Object.assign(box, {type: 'checkbox', name: 'kind', value: kind, defaultChecked: true});
  label.append(box, kind);
  filters.querySelector('fieldset').append(label);
}
const outcomes = distinct(cards.map(card => card.dataset.outcome));
if (outcomes.some(outcome => outcome.startsWith('refused: '))) outcomes.push('refused');
for (const outcome of outcomes)
  filters.elements.outcome.append(new Option(outcome === 'refused' ? 'refused, for any reason' : outcome, outcome));
filters.elements.outcome.hidden = !outcomes.length;
filters.querySelector('span').hidden = !cards.some(card => card.dataset.score);
function filter() {
  const wanted = new FormData(filters), kinds = wanted.getAll('kind');
  const name = wanted.get('name').toLowerCase(), outcome = wanted.get('outcome');
  const [low, high] = [wanted.get('low'), wanted.get('high')];
  for (const card of cards) {
    const images = imagesOf(card), {outcome: own = '', score = NaN} = card.dataset;
    for (const image of images) image.hidden = !kinds.includes(kindOf(image));
    card.hidden = images.every(image => image.hidden)
      || !card.querySelector('.name').textContent.toLowerCase().includes(name)
      || outcome !== '' && own !== outcome && !own.startsWith(outcome + ': ')
      || low !== '' && !(Number(score) >= Number(low)) || high !== '' && !(Number(score) <= Number(high));
  }
  const shown = cards.filter(card => !card.hidden).length;
  const all = shown === cards.length && kinds.length === filters.querySelectorAll('[name=kind]').length;
  for (const section of document.querySelectorAll('section'))
    section.hidden = !all && cards.every(card => card.hidden || !section.contains(card));
  document.body.classList.toggle('contact', kinds.length === 1);
  filters.querySelector('output').textContent = shown ? `${shown} of ${cards.length} shown` : 'nothing matches';
}
filters.addEventListener('input', filter);
filters.addEventListener('submit', event => event.preventDefault());
filters.addEventListener('reset', () => setTimeout(filter));
filters.hidden = document.querySelector('.hint').hidden = cards.length === 0;
filter();

// The page of a run that goes on is read again, but not while somebody looks at an image or searches.
const progress = document.getElementById('progress');
let used = 0;
for (const kind of ['input', 'pointerdown', 'wheel', 'keydown']) addEventListener(kind, () => { used = Date.now(); });
if (progress) setInterval(() => {
  const searching = filters.elements.name.value || filters.elements.outcome.value;
  if (!dialog.open && !searching && Date.now() - used > 5000) location.reload();
}, 1000 * progress.dataset.every);
"""
