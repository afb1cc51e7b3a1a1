// What the sweep teaches: importance, effects of parameters alone and in pairs, what early epochs foretold.
const percent = (share) => (share > 0 && share < 0.005 ? "under 1 %" : `${(100 * share).toFixed(share < 0.1 && share >= 0.01 ? 1 : 0)} %`);
const of = (entries, k) => entries.filter((e) => e.objective === R.objectives[k].name);
const standing = (v) => `${Math.round(100 * v)} %`;
const axisOf = (name) => R.parameters.find((p) => p.name === name);
const hasInsight = (key) => R[key].length > 0;

function titled(node, full) {
  node.append(Object.assign(el("title"), { textContent: full }));
  return node;
}

/** Bars: what a parameter does by itself, then lighter what it does with others; the interval is that of both. */
function drawImportance(host, k) {
  const rows = of(R.importance, k).slice(0, 12), pairs = of(R.interactions, k).slice(0, 5);
  if (!rows.length) {
    host.replaceChildren(html("p", { class: "hint" }, "Too few trials to tell; eight with results are needed."));
    return;
  }
  const height = 14 + rows.length * 30;
  const [svg, width] = canvas(host, height, "Parameter importance");
  const longest = Math.max(...rows.map((r) => label(r.name).length));
  const left = Math.min(width * 0.42, longest * 7 + 16), right = width - 70, x = linear([0, Math.max(0.05, ...rows.map((r) => r.total_high))], [left, right]);
  rows.forEach((row, i) => {
    const y = 8 + i * 30, main = Math.min(row.share, row.total);
    const name = el("text", { x: left - 10, y: y + 14, "text-anchor": "end", class: i === 0 ? "strong" : null });
    name.textContent = clipped(label(row.name), left - 16);
    svg.append(titled(name, `${row.name}: ${percent(row.share)} by itself (90 % interval ${percent(row.low)} to ${percent(row.high)}), active in ${row.trials} trials`));
    svg.append(el("rect", { x: left, y, width: Math.max(1.5, x(row.total) - left), height: 20, rx: 4, fill: "var(--accent)", "fill-opacity": 0.35 }));
    if (main > 0) svg.append(el("rect", { x: left, y, width: Math.max(1.5, x(main) - left), height: 20, rx: 4, fill: "var(--accent)" }));
    svg.append(el("path", { d: `M${x(row.total_low)},${y + 10}H${x(row.total_high)}M${x(row.total_low)},${y + 6}v8M${x(row.total_high)},${y + 6}v8`, stroke: "var(--ink)", "stroke-opacity": 0.6, fill: "none" }));
    svg.append(Object.assign(el("text", { x: Math.max(x(row.total), x(row.total_high)) + 8, y: y + 14, class: "strong" }), { textContent: percent(row.total) }));
  });
  const whole = of(R.explained, k)[0];
  const text = pairs.map((p) => `${p.names.map(label).join(" × ")} ${percent(p.share)} (${percent(p.low)} to ${percent(p.high)})`);
  host.append(html("p", { class: "note" }, pairs.length ? `Together beyond each alone: ${text.join(", ")}.` : "No interaction of two parameters stands out from chance."));
  host.append(html("p", { class: "note" }, `All of it explains ${percent(whole.share)} of the order that ${whole.trials} trials would have at epoch ${whole.epoch} (${percent(whole.low)} to ${percent(whole.high)})${whole.epoch < R.sweep.max_epochs ? ", the last that enough of them reached" : ""}.`));
}

/** The frame of a small chart with the title of what it shows. */
function cellOf(host, title, full, height) {
  const cell = host.appendChild(html("div"));
  const [svg, width] = canvas(cell, height, title);
  svg.append(titled(Object.assign(el("text", { x: 46, y: 12, class: "strong" }), { textContent: clipped(title, width - 50) }), full));
  return [svg, [46, 22, width - 8, height - 26], width];
}

function bottomTicks(svg, scale, box, width) {
  const ticks = scale.ticks(3), every = Math.ceil(ticks.length / Math.max(2, Math.floor((width - 60) / 54)));
  ticks.forEach((v, i) => {
    if (i % every === 0) svg.append(Object.assign(el("text", { x: scale(v), y: box[3] + 17, "text-anchor": "middle" }), { textContent: clipped(fmt(v), ((width - 60) * every) / ticks.length) }));
  });
}

function drawEffects(host, k) {
  const curves = of(R.dependence, k), maps = of(R.surfaces, k), count = curves.length + maps.length;
  const fitting = Math.max(1, Math.floor(host.clientWidth / 215)), columns = Math.ceil(count / Math.ceil(count / fitting));
  host.style.cssText = `display:grid;grid-template-columns:repeat(${columns || 1},minmax(0,1fr));gap:14px 18px`;
  host.replaceChildren();
  if (!count) host.append(html("p", { class: "hint" }, "No parameter has an effect that can be told from chance."));
  for (const curve of curves) drawEffect(host, curve);
  for (const map of maps) drawMap(host, map);
}

function drawEffect(host, curve) {
  const p = axisOf(curve.name), [svg, box, width] = cellOf(host, label(p.name), p.name, 190);
  const x = parameterScale(p, [box[0] + 8, box[2] - 8], 14), y = linear([0, 1], [box[3], box[1]]);
  for (const v of [0, 0.5, 1]) {
    svg.append(el("line", { class: "gridline", x1: box[0], x2: box[2], y1: y(v), y2: y(v) }));
    svg.append(Object.assign(el("text", { x: box[0] - 6, y: y(v) + 4, "text-anchor": "end" }), { textContent: standing(v) }));
  }
  bottomTicks(svg, x, box, width);
  svg.append(el("line", { class: "axis", x1: box[0], x2: box[2], y1: box[3], y2: box[3] }));
  const at = curve.points.map(([v, mean, low, high]) => ({ v, px: x(v), mean, low, high }));
  if (p.values) {
    for (const a of at) {
      svg.append(el("path", { d: `M${a.px},${y(a.low)}V${y(a.high)}M${a.px - 5},${y(a.low)}h10M${a.px - 5},${y(a.high)}h10`, stroke: "var(--ink)", "stroke-opacity": 0.5, fill: "none" }));
      svg.append(el("circle", { class: "dot", cx: a.px, cy: y(a.mean), r: 4.5, fill: "var(--accent)" }));
    }
  } else {
    const there = at.map((a) => `${a.px.toFixed(1)},${y(a.high).toFixed(1)}`), back = [...at].reverse().map((a) => `${a.px.toFixed(1)},${y(a.low).toFixed(1)}`);
    svg.append(el("path", { d: `M${[...there, ...back].join("L")}Z`, fill: "var(--accent)", "fill-opacity": 0.18 }));
    svg.append(el("path", { class: "step", d: `M${at.map((a) => `${a.px.toFixed(1)},${y(a.mean).toFixed(1)}`).join("L")}` }));
  }
  tell(svg, width, at.map((a) => [a.px, y(a.mean), `${esc(label(p.name))} = <b>${esc(fmt(a.v))}</b>\nbeats <b>${standing(a.mean)}</b> of the trials\n90 % interval ${standing(a.low)} to ${standing(a.high)}`]));
}

function drawMap(host, map) {
  const [a, b] = map.names.map(axisOf), [svg, box, width] = cellOf(host, `${label(b.name)} × ${label(a.name)}`, map.names.join(" × "), 190);
  const [xs, ys] = [map.values[1], map.values[0]];
  const w = (box[2] - box[0]) / xs.length, h = (box[3] - box[1]) / ys.length, spots = [];
  ys.forEach((v, i) => xs.forEach((u, j) => {
    const px = box[0] + j * w, py = box[3] - (i + 1) * h, mean = map.mean[i][j];
    svg.append(el("rect", { x: px, y: py, width: w + 0.5, height: h + 0.5, fill: ramp(mean) }));
    spots.push([px + w / 2, py + h / 2, `${esc(label(b.name))} = <b>${esc(fmt(u))}</b>\n${esc(label(a.name))} = <b>${esc(fmt(v))}</b>\nbeats <b>${standing(mean)}</b> of the trials`]);
  }));
  const few = (n, room) => (i) => i % Math.max(1, Math.ceil(n / room)) === 0;
  const isTick = few(xs.length, Math.max(2, Math.floor((width - 60) / 54))), isRow = few(ys.length, 5);
  xs.forEach((u, j) => { if (isTick(j)) svg.append(Object.assign(el("text", { x: box[0] + (j + 0.5) * w, y: box[3] + 17, "text-anchor": "middle" }), { textContent: clipped(fmt(u), 54) })); });
  ys.forEach((v, i) => { if (isRow(i)) svg.append(Object.assign(el("text", { x: box[0] - 6, y: box[3] - (i + 0.5) * h + 4, "text-anchor": "end" }), { textContent: clipped(fmt(v), 44) })); });
  tell(svg, width, spots);
}

/** Show the text of the nearest of `spots` ([x, y, text]). */
function tell(svg, width, spots) {
  svg.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const mx = (event.clientX - box.left) * scale, my = (event.clientY - box.top) * scale;
    const near = spots.reduce((best, s) => ((s[0] - mx) ** 2 + (s[1] - my) ** 2 < (best[0] - mx) ** 2 + (best[1] - my) ** 2 ? s : best));
    placeTip(event, near[2]);
  });
  svg.addEventListener("mouseleave", () => hover(null));
}

function drawEarly(host) {
  const early = R.early_rungs;
  const between = (a) => (a ? `${a.mended.toFixed(2)} (${a.low.toFixed(2)} to ${a.high.toFixed(2)}), ${a.trials} trials` : "–");
  const chance = (r) => (r ? `${percent(r.chance)} (${percent(r.low)} to ${percent(r.high)})` : "–");
  const head = html("tr"), body = html("tbody");
  for (const name of ["epoch", "trials", "the winner's place", "best kept", "agrees with the next", `agrees with epoch ${early.last}`, "chance to stop the later best"]) head.append(html("th", { scope: "col", style: "padding:6px 10px" }, name));
  for (const look of early.looks) {
    const row = html("tr");
    const cells = [`${look.epoch}${look.is_rung ? "" : " (no rung)"}`, look.trials, look.winner_place === null ? "–" : `${look.winner_place}, ${look.kept} go on`, `${look.best_kept} of ${look.best}`, between(look.next), between(look.last), chance(look.risk)];
    for (const text of cells) row.append(html("td", {}, String(text)));
    body.append(row);
  }
  const advice = early.advice ? html("p", { class: "warn", style: "border-color:var(--accent)" }, early.advice) : html("p", { class: "note" }, early.no_advice);
  host.replaceChildren(...(early.looks.length ? [html("div", { class: "scroll" }, html("table", {}, html("thead", {}, head), body))] : []), advice);
}
