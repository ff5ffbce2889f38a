// Chooses one run in all charts and tables, and leaves out runs by text and by kind.
const WORDS = JSON.parse(document.getElementById("words").textContent);
const bar = document.getElementById("chooser");
const search = document.getElementById("filter");
const state = document.getElementById("state");
const chips = [...bar.querySelectorAll(".chip")];
const marks = [...bar.querySelectorAll(".mark")];
let lit = null;
let kept = null;

const said = (words, holes) => words.replace(/\{(\w+)\}/g, (_, name) => holes[name]);

// The colour that the charts give each run, beside its name.
function swatches(node) {
  if (node === null || typeof node !== "object") return;
  const {domain, range} = node;
  if (Array.isArray(domain) && Array.isArray(range) && domain.length === range.length) {
    domain.forEach((run, i) => {
      const chip = chips.find((c) => c.dataset.run === run);
      if (chip && /^#/.test(range[i])) chip.style.setProperty("--run", range[i]);
    });
  }
  Object.values(node).forEach(swatches);
}

function show() {
  for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.run === lit));
  for (const row of document.querySelectorAll("tr[data-run]")) row.classList.toggle("lit", row.dataset.run === lit);
  lift(lit === null ? "" : lit);
}

function choose(run) {
  lit = run === lit ? null : run;
  show();
  tell();
}

function tell() {
  const n = chips.filter((c) => !c.hidden).length;
  const words = [n === chips.length ? said(WORDS.all, {n}) : said(WORDS.some, {n, n2: chips.length})];
  if (lit !== null) words.push(said(WORDS.lit, {name: lit}));
  state.textContent = words.join("; ");
}

function filter() {
  const text = search.value.trim().toLowerCase();
  const off = new Set(marks.filter((m) => m.getAttribute("aria-pressed") === "false").map((m) => m.dataset.mark));
  const before = kept;
  for (const chip of chips) {
    chip.hidden = off.has(chip.dataset.mark) || !chip.dataset.words.toLowerCase().includes(text);
  }
  kept = chips.some((c) => c.hidden) ? new Set(chips.filter((c) => !c.hidden).map((c) => c.dataset.run)) : null;
  for (const part of document.querySelectorAll("main tr[data-run], article[data-run]")) {
    part.hidden = kept !== null && !kept.has(part.dataset.run);
  }
  if (kept !== null && !kept.has(lit)) lit = null;
  if (String(before && [...before]) !== String(kept && [...kept])) redraw();
  show();
  tell();
}

function redraw() {
  return draw(kept, () => {
    show();
    for (const view of VIEWS.values()) {
      view.addEventListener("click", (_, item) => {
        if (item && item.datum && RUNS.has(item.datum.run)) choose(item.datum.run);
      });
    }
  });
}

let waiting = 0;
search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); });
for (const chip of chips) chip.addEventListener("click", () => choose(chip.dataset.run));
for (const mark of marks) {
  mark.addEventListener("click", () => {
    mark.setAttribute("aria-pressed", String(mark.getAttribute("aria-pressed") === "false"));
    filter();
  });
}
for (const row of document.querySelectorAll("tr[data-run]")) {
  row.classList.add("pick");
  row.addEventListener("click", () => { if (!getSelection().toString()) choose(row.dataset.run); });
}
addEventListener("keydown", (event) => { if (event.key === "Escape" && lit !== null) choose(lit); });
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
swatches(SPECS);
bar.hidden = chips.length < 2;
tell();
redraw();
