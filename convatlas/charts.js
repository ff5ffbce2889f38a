// Draws each chart in place of its still picture. `ast` interprets Vega's expressions instead of compiling them, which
// the page's policy forbids.
const SPECS = JSON.parse(document.getElementById("charts").textContent);
const VIEWS = new Map();
const HIGHLIGHT = "highlight";
const ERRORS = 1;  // of the levels of vega.logger

// The specification for this width, with the runs that `kept` names (null: all). Axes and colours stay as they were.
function fitted(spec, width, kept) {
  const copy = walked(structuredClone(spec), kept);
  if (copy.width === "container") Object.assign(copy, {width, autosize: {type: "fit-x", contains: "padding"}});
  const columns = Math.max(1, Math.floor(width / 170));
  if (copy.config && copy.config.legend) {
    Object.assign(copy.config.legend, {columns, labelLimit: (width - 70) / columns - 35});
  }
  return copy;
}

// Leaves out the rows, the legend's entries and the colours of runs that are not kept.
function walked(node, kept) {
  if (kept === null || node === null || typeof node !== "object") return node;
  if (Array.isArray(node)) {
    return node.filter((row) => !(row && typeof row.run === "string") || kept.has(row.run)).map((n) => walked(n, kept));
  }
  const {domain, range} = node;
  if (Array.isArray(domain) && Array.isArray(range) && domain.length === range.length && domain.some((d) => RUNS.has(d))) {
    const left = domain.map((_, i) => i).filter((i) => kept.has(domain[i]));
    return {...node, domain: left.map((i) => domain[i]), range: left.map((i) => range[i])};
  }
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, walked(value, kept)]));
}

const RUNS = new Set([...document.querySelectorAll("[data-run]")].map((e) => e.dataset.run));

async function draw(kept = null, after = () => {}) {
  await Promise.all(Object.entries(SPECS).map(async ([name, spec]) => {
    const figure = document.getElementById("chart-" + name);
    const live = figure.querySelector(".live");
    const options = {mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: {theme: "page"}, logLevel: ERRORS};
    try {
      const drawn = await window.vegaEmbed(live, fitted(spec, figure.clientWidth, kept), options);
      if (VIEWS.has(name)) VIEWS.get(name).finalize();
      VIEWS.set(name, drawn.view);
      figure.classList.add("drawn");
    } catch (error) {
      figure.classList.remove("drawn");
      live.replaceChildren();
      console.error(error);
    }
  }));
  after();
}

// Lifts one run out of all charts; "" for none. A run under a chart's own pointer goes before it.
function lift(run) {
  for (const view of VIEWS.values()) {
    try {
      view.signal(HIGHLIGHT, run).runAsync();
    } catch {
      // A chart that does not tell runs apart has no such signal.
    }
  }
}

// Paper has nothing to press: all is unfolded for it, and folded again after it.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  unfolded.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => unfolded.forEach((d) => { d.open = false; }));
