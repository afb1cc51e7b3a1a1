// The report's data, its words and numbers, scales, SVG, and what charts share: the hovered trial and the brushed ones.
const R = JSON.parse(document.getElementById("report").textContent);
const OBJ = R.objectives[0];
const BEST = R.best ? R.best.trial : null;
const ENDINGS = ["completed", "stopped", "diverged", "failed", "running", "paused", "pending"];
const TRIALS = R.trials;
const CONFIGURATIONS = TRIALS.filter((t) => t.repeats === undefined); // each once, however many fits it has
const IS_SINGLE = R.objectives.length === 1;
const GOLD = new Set(IS_SINGLE ? (BEST === null ? [] : [BEST]) : R.pareto); // what charts put in gold
let kept = null; // trials inside all brushes; null: no brush

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isBetter = (a, b) => (OBJ.goal === "minimize" ? a < b : a > b);
const esc = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

function fmt(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return short(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const short = (value) => {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /^[A-Za-z_][\w]*(\.[A-Za-z_]\w*)+$/.test(text) ? text.split(".").pop() : text;
};

const NAMES = (() => {
  const names = R.parameters.map((p) => p.name);
  const telling = (name) => name.split(".").filter((part, i) => i === 0 || !["init_args", "class_path"].includes(part));
  const tail = (name, n) => (n > telling(name).length ? name : telling(name).slice(-n).join("."));
  const found = {};
  for (const name of names) {
    let n = 1;
    while (n < 9 && names.some((other) => other !== name && tail(other, n) === tail(name, n))) n++;
    found[name] = tail(name, n);
  }
  return found;
})();
const label = (name) => NAMES[name] || name;
const clipped = (text, pixels) => {
  const most = Math.max(3, Math.floor(pixels / 6.6));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
};

// ---- SVG ----
function el(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(key, value);
  for (const child of children) node.append(child);
  return node;
}

function html(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node[key] = value;
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  for (const child of children) node.append(child);
  return node;
}

function canvas(host, height, title, least = 180) {
  const width = Math.max(least, host.clientWidth);
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title, style: `min-width:${least}px` });
  host.replaceChildren(svg);
  host.style.overflowX = least > host.clientWidth ? "auto" : "";
  return [svg, width, height];
}

// ---- scales ----
function linear(domain, range) {
  const [a, b] = domain, [c, d] = range, span = b - a || 1;
  const at = (v) => c + ((v - a) / span) * (d - c);
  at.invert = (p) => a + ((p - c) / (d - c || 1)) * span;
  at.ticks = (n) => niceTicks(a, b, n);
  return at;
}

function logarithmic(domain, range) {
  const inner = linear(domain.map(Math.log10), range);
  const at = (v) => inner(Math.log10(v));
  at.invert = (p) => 10 ** inner.invert(p);
  at.ticks = (n) => {
    const [lo, hi] = domain.map(Math.log10), ticks = [];
    const every = Math.max(1, Math.ceil((hi - lo) / n));
    for (let e = Math.ceil(lo - 1e-9); e <= hi + 1e-9; e += every) ticks.push(10 ** e);
    return ticks.length > 1 ? ticks : niceTicks(domain[0], domain[1], n);
  };
  return at;
}

function niceTicks(lo, hi, n) {
  const raw = (hi - lo) / Math.max(1, n), size = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= raw) || size;
  const ticks = [];
  for (let v = Math.ceil(lo / step - 1e-9) * step; v <= hi + step * 1e-9; v += step) ticks.push(Number(v.toPrecision(12)));
  return ticks;
}

function quantile(sorted, q) {
  const at = (sorted.length - 1) * q, i = Math.floor(at);
  return sorted[i] + (sorted[Math.min(i + 1, sorted.length - 1)] - sorted[i]) * (at - i);
}

/** A domain that keeps the good end whole and does not let a few terrible values flatten everything. */
function robust(values) {
  const sorted = values.filter((v) => v !== null && Number.isFinite(v)).sort((a, b) => a - b);
  if (!sorted.length) return [0, 1];
  let lo = sorted[0], hi = sorted[sorted.length - 1];
  const q1 = quantile(sorted, 0.05), q3 = quantile(sorted, 0.95), room = 1.2 * (q3 - q1 || Math.abs(q3) || 1);
  if (OBJ.goal === "minimize") hi = Math.min(hi, q3 + room);
  else lo = Math.max(lo, q1 - room);
  const pad = (hi - lo) * 0.05 || Math.abs(hi) * 0.05 || 0.5;
  return [lo - pad, hi + pad];
}

/** As `robust`, with room for the better half only: early stopping leaves many poor values, and the good ones lie close together. */
function betterHalf(values) {
  const sorted = values.filter((v) => v !== null && Number.isFinite(v)).sort((a, b) => (isBetter(a, b) ? -1 : 1));
  return robust(sorted.slice(0, Math.max(8, Math.ceil(sorted.length / 2))));
}

function axes(svg, x, y, box, names, formats = [fmt, fmt], marks = null) {
  const [left, top, right, bottom] = box;
  for (const v of y.ticks(5)) {
    svg.append(el("line", { class: "gridline", x1: left, x2: right, y1: y(v), y2: y(v) }));
    svg.append(Object.assign(el("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }), { textContent: formats[1](v) }));
  }
  let free = -Infinity; // marks may stand anywhere: one that would touch the one before it is left out
  for (const v of marks ?? x.ticks(Math.max(2, Math.floor((right - left) / 90)))) {
    if (x(v) < free) continue;
    free = x(v) + 30;
    svg.append(Object.assign(el("text", { x: x(v), y: bottom + 18, "text-anchor": "middle" }), { textContent: formats[0](v) }));
  }
  svg.append(el("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  svg.append(Object.assign(el("text", { x: right, y: bottom + 34, "text-anchor": "end" }), { textContent: names[0] }));
  svg.append(Object.assign(el("text", { x: 0, y: top - 14, class: "strong" }), { textContent: names[1] }));
}

// ---- colour ----
const endingColor = (ending) => `var(--${ending})`;
const RAMP = ["--ramp0", "--ramp1", "--ramp2", "--ramp3"];
function ramp(t) {
  const stops = RAMP.map((name) => css(name).match(/\w\w/g).map((h) => parseInt(h, 16)));
  const at = Math.min(0.9999, Math.max(0, t)) * (stops.length - 1), i = Math.floor(at), f = at - i;
  return `rgb(${stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * f)).join(",")})`;
}

/** 0 for the worst trial to 1 for the best one, by rank: an even spread of colour whatever the values. */
const STANDING = (() => {
  const order = R.ranking.map((number) => TRIALS[number]);
  const found = new Map();
  order.forEach((t, i) => found.set(t.trial, order.length > 1 ? 1 - i / (order.length - 1) : 1));
  return found;
})();
const standingColor = (trial) => ramp((STANDING.get(trial) ?? 0) ** 1.6);

// ---- what charts share ----
const tip = document.getElementById("tip");
function showTip(event, trial, extra = "") {
  const t = TRIALS[trial];
  const lines = [`<b>trial ${t.trial}</b>${GOLD.has(trial) ? " ★" : ""} · ${esc(t.ending)} at epoch ${t.epochs}`];
  if (t.best) for (const o of R.objectives) lines.push(`${esc(o.name)} <b>${fmt(t.best[o.name])}</b>${o === OBJ ? ` (epoch ${t.best_epoch})` : ""}`);
  if (extra) lines.push(esc(extra));
  for (const p of R.parameters.slice(0, 8)) if (p.name in t.params) lines.push(`${esc(label(p.name))} = ${esc(fmt(t.params[p.name]))}`);
  placeTip(event, lines.join("\n"));
}

function placeTip(event, content) {
  tip.innerHTML = content;
  tip.style.visibility = "visible";
  const box = tip.getBoundingClientRect();
  const x = event.clientX + 16 + box.width > innerWidth ? event.clientX - box.width - 14 : event.clientX + 16;
  const y = Math.min(event.clientY + 14, innerHeight - box.height - 8);
  tip.style.left = `${Math.max(4, x)}px`;
  tip.style.top = `${Math.max(4, y)}px`;
}

function hover(trial) {
  for (const node of document.querySelectorAll(".hot")) node.classList.remove("hot");
  if (trial === null) tip.style.visibility = "hidden";
  else for (const node of document.querySelectorAll(`[data-t="${trial}"]`)) node.classList.add("hot");
}

function applyFilter() {
  for (const node of document.querySelectorAll("[data-t]")) node.classList.toggle("off", kept !== null && !kept.has(Number(node.dataset.t)));
}

/** Hover the nearest of `points` ([x, y, trial, text]) within `reach` pixels. */
function nearest(svg, width, points, reach = 26) {
  svg.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const mx = (event.clientX - box.left) * scale, my = (event.clientY - box.top) * scale;
    let found = null, least = reach * reach;
    for (const p of points) {
      const d = (p[0] - mx) ** 2 + (p[1] - my) ** 2;
      if (d < least && (kept === null || kept.has(p[2]))) [least, found] = [d, p];
    }
    hover(found ? found[2] : null);
    if (found) showTip(event, found[2], found[3]);
  });
  svg.addEventListener("mouseleave", () => hover(null));
}
