"use strict";
// Contents from the headings, tables that sort and filter, and the panels of figures, drawn by plotly.js when they come
// into sight. Without this script the page shows its pictures and its tables as they are.
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const press = (button, on) => button.setAttribute("aria-pressed", String(on));

const wide = matchMedia("(min-width: 88rem)");
const contents = document.querySelector(".contents details");
for (const heading of document.querySelectorAll("main section[id] > h2"))
  contents.lastElementChild.append(
    make("li", {}, make("a", { href: "#" + heading.parentElement.id, textContent: heading.textContent })));
contents.open = wide.matches;
wide.addEventListener("change", () => { contents.open = wide.matches; });

// Tables. A cell's number is what it begins with: "1.50×10⁷" is written 1.50×10<sup>7</sup>, a dash is nothing.
const numberOf = (cell) => {
  const text = cell.textContent.trim().replace(/[\u202f,]/g, "").replaceAll("−", "-");
  if (/^-?∞/.test(text)) return text[0] === "-" ? -Infinity : Infinity;
  const found = /^(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?:×10(-?\d+))?/.exec(text);
  return found ? Number(found[1]) * 10 ** Number(found[2] ?? 0) : NaN;
};
const order = (rows, column, sign) => {
  const cells = rows.map((row) => row.cells[column]);
  const texts = cells.map((cell) => cell?.textContent.trim() ?? "");
  const numbers = cells.map((cell) => (cell ? numberOf(cell) : NaN));
  const empty = (i) => texts[i] === "" || texts[i] === "–" || texts[i] === "-";
  const some = numbers.filter((_, i) => !empty(i));
  const numeric = some.filter(Number.isNaN).length <= some.length / 2;
  const before = (a, b) => numeric
    ? (Number.isNaN(numbers[a]) - Number.isNaN(numbers[b])) || sign * (numbers[a] > numbers[b] ? 1 : numbers[a] < numbers[b] ? -1 : 0)
    : (empty(a) - empty(b)) || sign * texts[a].localeCompare(texts[b], "en", { numeric: true });
  return rows.map((_, i) => i).sort((a, b) => before(a, b) || a - b).map((i) => rows[i]);
};
for (const table of document.querySelectorAll("main table")) {
  const body = table.tBodies[0], rows = body ? [...body.rows] : [];
  if (!table.tHead || rows.length < 3) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...order(rows, column, up ? 1 : -1));
    });
  });
  if (rows.length < 9) continue;
  const count = make("span", { className: "count", textContent: `${rows.length} rows` });
  count.setAttribute("role", "status");
  const input = make("input", { type: "search", placeholder: "words that a row has" });
  input.setAttribute("aria-label", "Filter " + (table.caption?.textContent ?? "the table"));
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = shown < rows.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
  });
  table.parentElement.before(make("div", { className: "tools" }, make("label", {}, "Filter: ", input), count));
}

// Figures
let loading;
const plotly = () => loading ??= (async () => {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(make("script", { textContent: await new Response(stream).text() }));
  return window.Plotly;
})();
const dark = matchMedia("(prefers-color-scheme: dark)");
const LIGHTER = { "#000000": "#e4e7ea", "#0072b2": "#4ba6e2", "#6b6b6b": "#a6adb5", "#d55e00": "#ff8a3d", "#009e73": "#35c79c",
  "#e00000": "#ff6b6b", "#cc79a7": "#e39cc4", "#ffffff": "#14171a" };
const shade = (colour) => (dark.matches && LIGHTER[String(colour).toLowerCase()]) || colour;
const short = (value) => Number(value).toPrecision(4).replace(/\.?0+(?=e|$)/, "").replace("-", "−");
// Below the smallest number that a logarithmic axis shows as such it is linear down to 0, as in the pictures.
const place = (value, scale) => value === null || !scale || value >= scale.linear ? value
  : scale.linear * 10 ** (-scale.decades * (1 - value / scale.linear));
const SHAPES = { square: "M9 2h8v8h-8z", diamond: "M13 1l5 5-5 5-5-5z", "triangle-up": "M13 1l5 9H8z", "triangle-down": "M13 11l5-9H8z",
  cross: "M11.5 1h3v3.5H18v3h-3.5V11h-3V7.5H8v-3h3.5z", x: "M9 3l2-2 2 3 2-3 2 2-2 3 2 3-2 2-2-3-2 3-2-2 2-3z",
  "cross-thin": "M13 1v10M8 6h10", "x-thin": "M9 2l8 8M9 10l8-8", "line-ns": "M13 1v10", "line-ew": "M8 6h10",
  "arrow-down": "M13 11l4-6h-8z", star: "M13 0l2 4 4 .5-3 3 1 4-4-2-4 2 1-4-3-3 4-.5z" };
const CIRCLE = "M9 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0";
const swatch = (traces) => {
  const has = (mode) => traces.find((trace) => trace.mode?.includes(mode));
  const trace = { ...traces[0], ...has("lines"), ...has("markers"), line: has("lines")?.line,
    mode: ["lines", "markers"].filter(has).join("+"), fill: has("lines") || has("markers") ? has("lines")?.fill : "toself" };
  const colour = shade([trace.fill ? trace.fillcolor : trace.marker?.color ?? trace.line?.color].flat()[0]);
  const svg = (inner) => `<svg viewBox="0 0 26 12" aria-hidden="true">${inner}</svg>`;
  const symbol = String([trace.marker?.symbol ?? "circle"].flat()[0]), path = SHAPES[symbol.replace("-open", "")] ?? CIRCLE;
  const dot = trace.mode?.includes("markers") ? `<path d="${path}" fill="${symbol.includes("open") ? "none" : colour}" stroke="${colour}" stroke-width="1.3"/>` : "";
  const dashes = { dash: "6 4", dot: "1.5 3", dashdot: "6 3 1.5 3" }[trace.line?.dash] ?? trace.line?.dash?.replaceAll("px", "") ?? "";
  const line = trace.mode?.includes("lines") ? `<line x1="0" x2="26" y1="6" y2="6" stroke="${colour}" stroke-width="2" stroke-dasharray="${dashes}"/>` : "";
  return svg(trace.fill ? `<rect x="3" y="1" width="20" height="10" fill="${colour}"/>` : line + dot);
};
const traceOf = (trace, panel, state) => {
  const scales = panel.layout.meta ?? {};
  const at = (which) => (values) => values.map((v) => (state[which] === "log" ? place(v, scales[which]) : v));
  const out = { ...trace, x: at("x")(trace.x), y: at("y")(trace.y), visible: !state.hidden.has(trace.name) };
  const ends = {};
  for (const which of ["x", "y"]) {
    const error = trace["error_" + which];
    if (!error) continue;
    const low = trace[which].map((v, i) => v - error.arrayminus[i]), high = trace[which].map((v, i) => v + error.array[i]);
    ends[which] = (i) => (high[i] > low[i] ? ` [${short(low[i])}, ${short(high[i])}]` : "");
    const move = at(which), middle = out[which], positive = (v) => (state[which] === "log" && v <= 0 ? middle[0] * 1e-9 : v);
    out["error_" + which] = { ...error, color: shade(error.color), thickness: 1, width: 2,
      array: move(high).map((v, i) => v - middle[i]), arrayminus: move(low).map((v, i) => middle[i] - positive(v)) };
  }
  if (trace.hoverinfo !== "skip") {
    const category = panel.layout.yaxis.ticktext && panel.layout.yaxis.type !== "log";
    out.hoverinfo = "text";
    out.text = trace.x.map((x, i) => (trace.name ? `<b>${trace.name}</b><br>` : "") +
      (category ? short(x) + (ends.x?.(i) ?? "") : `${short(trace.y[i])}${ends.y?.(i) ?? ""}<br>at ${short(x)}${ends.x?.(i) ?? ""}`) +
      (trace.meta?.[i] ? `<br><i>${trace.meta[i]}</i>` : ""));
  }
  if (trace.line) out.line = { ...trace.line, color: shade(trace.line.color) };
  if (trace.marker) {
    const colour = Array.isArray(trace.marker.color) ? trace.marker.color.map(shade) : shade(trace.marker.color);
    out.marker = { ...trace.marker, color: colour, line: { ...trace.marker.line, color: colour } };
  }
  return out;
};
const wrapped = (text, room) => {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1) + (lines.at(-1) && " ") + word;
    if (line.replace(/<[^>]*>/g, "").length <= room || !lines.at(-1)) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  return lines.join("<br>");
};
const axisOf = (axis, which, panel, state, room) => {
  const ink = shade("#000000"), scale = panel.layout.meta?.[which];
  const out = { ...axis, type: state[which], linecolor: ink, showline: true, ticks: "outside", tickcolor: ink, zeroline: false,
    gridcolor: dark.matches ? "#2a2f35" : "#eceef0", automargin: true, tickangle: 0, nticks: which === "x" ? 5 : 7, exponentformat: "power", title: { text: wrapped(axis.title, room), standoff: 6 } };
  if (state[which] !== axis.type) {
    delete out.tickvals; delete out.ticktext; delete out.range;
    out.autorange = axis.reversed ? "reversed" : true;
  } else if (axis.type === "log") {
    if (axis.tickvals && scale) out.tickvals = axis.tickvals.map((v) => place(v, scale));
    else { delete out.tickvals; delete out.ticktext; }
    out.range = axis.range.map((v) => Math.log10(place(v, scale)));
    const decades = Math.abs(out.range[1] - out.range[0]);
    if (!out.tickvals && decades > 0.5 && decades < 3) Object.assign(out, { tickmode: "linear", dtick: "D2" });
  }
  return out;
};
const draw = async (panel, plot, state) => {
  const Plotly = await plotly(), bare = (text) => text.replace(/<[^>]*>/g, "");
  const margin = Math.max(70, 40 + 7 * Math.max(0, ...(panel.layout.yaxis.ticktext ?? []).map((text) => bare(text).length)));
  const layout = { font: { family: "system-ui, sans-serif", size: 12, color: shade("#000000") }, showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 10, t: 8, b: 44 }, hovermode: "closest",
    hoverlabel: { bgcolor: dark.matches ? "#2a2f35" : "#fff", align: "left" },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    shapes: (panel.layout.shapes ?? []).map((shape) => ({ ...shape, layer: "below", line: { ...shape.line, color: shade(shape.line.color) } })),
    xaxis: axisOf(panel.layout.xaxis, "x", panel, state, (plot.clientWidth - margin) / 7),
    yaxis: axisOf(panel.layout.yaxis, "y", panel, state, (plot.clientHeight - 60) / 7.5) };
  await Plotly.react(plot, panel.data.map((trace) => traceOf(trace, panel, state)), layout, { displayModeBar: false, responsive: true });
};
const redraws = [];
const build = (box) => {
  const panels = JSON.parse(box.querySelector("script").textContent);
  const grid = make("div", { className: "grid" }), tools = make("div", { className: "tools" });
  const parts = panels.map((panel) => {
    const state = { x: panel.layout.xaxis.type, y: panel.layout.yaxis.type, hidden: new Set() };
    const plot = make("div", { className: "plot" });
    const rows = panel.layout.yaxis.type === "log" ? 0 : (panel.layout.yaxis.ticktext ?? []).length;
    if (rows > 6) plot.style.height = `${5 + 2.4 * rows}rem`; // named rows, each with several markers
    const title = panel.layout.title;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `${box.dataset.alt}${title ? ": " : ""}${title.replace(/<[^>]*>/g, "")}`);
    const legend = make("div", { className: "legend" });
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Series");
    const seen = new Set(panel.data.map((trace) => trace.name).filter(Boolean));
    const part = { panel, state, plot, drawn: false };
    part.redraw = () => part.drawn && draw(panel, plot, state);
    for (const name of seen) {
      const button = make("button", { type: "button" });
      const paint = () => { button.innerHTML = swatch(panel.data.filter((trace) => trace.name === name)) + name; };
      button.addEventListener("click", () => {
        const shown = state.hidden.delete(name) || (state.hidden.add(name), false);
        press(button, shown);
        part.redraw();
      });
      press(button, true);
      paint();
      dark.addEventListener("change", paint);
      legend.append(button);
    }
    const heading = make("div", { className: "name", innerHTML: title });
    grid.append(make("div", { className: "panel" }, ...(title ? [heading] : []), plot, legend));
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      part.drawn = true;
      part.redraw();
    }, { rootMargin: "600px" }).observe(plot);
    redraws.push(part.redraw);
    return part;
  });
  for (const which of ["x", "y"]) {
    const scaled = parts.filter(({ panel }) => panel.layout[which + "axis"].type === "log");
    if (!scaled.length) continue;
    const button = make("button", { type: "button", textContent: `${which === "x" ? "horizontal" : "vertical"} axis logarithmic` });
    press(button, true);
    button.addEventListener("click", () => {
      const log = button.getAttribute("aria-pressed") !== "true";
      press(button, log);
      for (const part of scaled) { part.state[which] = log ? "log" : "linear"; part.redraw(); }
    });
    tools.append(button);
  }
  if ("complete" in box.dataset) {
    const before = box.previousElementSibling;
    before.hidden = true;
    const button = make("button", { type: "button", textContent: "as a picture" });
    press(button, false);
    button.addEventListener("click", () => {
      press(button, before.hidden);
      before.hidden = !before.hidden;
      grid.hidden = !before.hidden;
    });
    tools.append(button);
  } else if ("pictured" in box.dataset) { // only what the panels do not show
    const image = box.previousElementSibling.querySelector("img");
    image.decode().then(() => {
      image.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight * box.dataset.pictured}`;
    });
  }
  box.append(tools, grid);
  box.hidden = false;
};
if (window.DecompressionStream && document.getElementById("plotly")) document.querySelectorAll(".panels").forEach(build);
dark.addEventListener("change", () => redraws.forEach((redraw) => redraw()));
