// Best so far, learning curves, rungs, slices, Pareto front.
const EDGE = { left: 54, top: 30, right: 12, bottom: 40 };
const MOST_RUNGS = 10;
const inner = (width, height) => [EDGE.left, EDGE.top, width - EDGE.right, height - EDGE.bottom];

function drawBestSoFar(host, byTime) {
  const [svg, width, height] = canvas(host, 300, `Best ${OBJ.name} so far`);
  const box = inner(width, height), steps = R.best_so_far;
  const epochsAt = (t) => { let n = 0; for (const s of steps) if (s.at_s <= t.ended_s) n = s.epochs; return n; };
  const ended = TRIALS.filter((t) => t.best && t.best[OBJ.name] !== null && t.ended_s !== null);
  const endX = byTime ? R.sweep.elapsed_s : R.cost.epochs;
  const x = linear([0, endX || 1], [box[0], box[2]]);
  const y = linear(betterHalf([...ended.map((t) => t.best[OBJ.name]), ...steps.slice(-1).map((s) => s.value)]), [box[3], box[1]]);
  const clip = (v) => Math.min(box[3], Math.max(box[1], y(v)));
  axes(svg, x, y, box, [byTime ? "time" : "epochs trained", OBJ.name], [byTime ? (v) => duration(v) : fmt, fmt]);
  const points = [];
  if (byTime) {
    for (const t of ended) {
      const px = x(t.ended_s), py = clip(t.best[OBJ.name]);
      points.push([px, py, t.trial, ""]);
      svg.append(el("circle", { class: "dot", "data-t": t.trial, cx: px, cy: py, r: 3.6, fill: endingColor(t.ending) }));
    }
  }
  if (OBJ.target !== null && clip(OBJ.target) === y(OBJ.target)) {
    svg.append(el("line", { x1: box[0], x2: box[2], y1: y(OBJ.target), y2: y(OBJ.target), stroke: "var(--running)", "stroke-dasharray": "5 4" }));
    svg.append(Object.assign(el("text", { x: box[2], y: y(OBJ.target) - 5, "text-anchor": "end" }), { textContent: `target ${fmt(OBJ.target)}` }));
  }
  if (steps.length) {
    const at = (s) => x(byTime ? s.at_s : s.epochs);
    let path = `M${at(steps[0])},${clip(steps[0].value)}`;
    for (const s of steps.slice(1)) path += `H${at(s)}V${clip(s.value)}`;
    svg.append(el("path", { class: "step", d: `${path}H${box[2]}` }));
    for (const s of steps) points.push([at(s), clip(s.value), s.trial, `new best at ${byTime ? duration(s.at_s) : `epoch ${s.epochs} of the sweep`}`]);
    const last = steps[steps.length - 1];
    svg.append(el("circle", { class: "dot best", "data-t": last.trial, cx: at(last), cy: y(last.value), r: 5.5 }));
  }
  nearest(svg, width, points);
}

function drawCurves(host, k) {
  const objective = R.objectives[k];
  const [svg, width, height] = canvas(host, 300, `Learning curves of ${objective.name}`);
  const box = inner(width, height);
  const shown = TRIALS.filter((t) => t.curve.length);
  const values = shown.flatMap((t) => t.curve.map((p) => p[k + 1]));
  const last = Math.max(2, ...shown.map((t) => t.epochs)), rungs = R.sweep.rungs.filter((r) => r <= last);
  // Rungs grow geometrically and most trials end at the first ones: a logarithmic axis gives each the same room.
  const x = (rungs.length > 2 ? logarithmic : linear)([1, last], [box[0], box[2]]);
  const y = linear(robust(values), [box[3], box[1]]);
  axes(svg, x, y, box, ["epoch", objective.name], [fmt, fmt], rungs.length > 2 ? rungs : null);
  for (const rung of R.sweep.rungs.slice(0, -1)) {
    svg.append(el("line", { class: "axis", x1: x(rung), x2: x(rung), y1: box[1], y2: box[3], "stroke-dasharray": "2 4" }));
  }
  const clip = (v) => Math.min(box[3], Math.max(box[1], y(v)));
  const order = [...shown].sort((a, b) => (STANDING.get(a.trial) ?? -1) - (STANDING.get(b.trial) ?? -1));
  const points = [];
  for (const t of order) {
    const known = t.curve.filter((p) => p[k + 1] !== null);
    if (!known.length) continue;
    const isBest = GOLD.has(t.trial);
    const style = { class: isBest ? "curve best" : "curve", "data-t": t.trial, stroke: isBest ? null : endingColor(t.ending) };
    svg.append(el("path", { ...style, d: `M${known.map((p) => `${x(p[0]).toFixed(1)},${clip(p[k + 1]).toFixed(1)}`).join("L")}` }));
    const end = known[known.length - 1];
    svg.append(el("circle", { class: isBest ? "dot best" : "dot", "data-t": t.trial, cx: x(end[0]), cy: clip(end[k + 1]), r: isBest ? 4.5 : 2.4, fill: endingColor(t.ending) }));
    for (const p of known) points.push([x(p[0]), clip(p[k + 1]), t.trial, `epoch ${p[0]}: ${fmt(p[k + 1])}`]);
  }
  nearest(svg, width, points);
}

function drawRungs(host) {
  const every = Math.ceil(R.rungs.length / MOST_RUNGS); // schedulers that look at every epoch have a rung at each
  const rows = R.rungs.filter((_, i) => (R.rungs.length - 1 - i) % every === 0), height = 8 + rows.length * 42;
  const [svg, width] = canvas(host, height, "How many trials reached each rung");
  const left = 76, right = width - 96, total = Math.max(1, ...rows.map((r) => r.reached));
  rows.forEach((rung, i) => {
    const y = 6 + i * 42, w = ((right - left) * rung.reached) / total, end = ((right - left) * rung.ended) / total;
    svg.append(Object.assign(el("text", { x: left - 10, y: y + 16, "text-anchor": "end" }), { textContent: `epoch ${rung.epoch}` }));
    svg.append(el("rect", { x: left, y, width: right - left, height: 24, rx: 5, fill: "var(--grid)" }));
    const isTop = i === rows.length - 1;
    if (rung.reached) svg.append(el("rect", { x: left, y, width: w, height: 24, rx: 5, fill: "var(--completed)" }));
    if (!isTop && end > 0.5) svg.append(el("path", { d: `M${left + w - end},${y}h${Math.max(0, end - 5)}a5,5 0 0 1 5,5v14a5,5 0 0 1 -5,5h-${Math.max(0, end - 5)}z`, fill: "var(--stopped)" }));
    svg.append(Object.assign(el("text", { x: right + 10, y: y + 11, class: "strong" }), { textContent: `${rung.reached} trial${rung.reached === 1 ? "" : "s"}` }));
    svg.append(Object.assign(el("text", { x: right + 10, y: y + 25 }), { textContent: rung.best === null ? "" : `best ${fmt(rung.best)}` }));
  });
}

function parameterScale(p, range, inset = 0) {
  if (p.values) {
    const [a, b] = range, n = p.values.length, sign = Math.sign(b - a), from = a + sign * inset, to = b - sign * inset;
    const keys = p.values.map((v) => JSON.stringify(v));
    const at = (v) => (n === 1 ? (a + b) / 2 : from + ((to - from) * keys.indexOf(JSON.stringify(v))) / (n - 1));
    at.ticks = () => p.values;
    return at;
  }
  const domain = p.min === p.max ? [p.min - 0.5, p.max + 0.5] : [p.min, p.max];
  return p.log ? logarithmic(domain, range) : linear(domain, range);
}

function drawSlices(host) {
  const rank = Object.fromEntries(R.importance.filter((i) => i.objective === OBJ.name).map((i, at) => [i.name, at]));
  const shown = [...R.parameters].sort((a, b) => (rank[a.name] ?? 99) - (rank[b.name] ?? 99)).slice(0, 8);
  const trials = TRIALS.filter((t) => t.best && t.best[OBJ.name] !== null);
  const fitting = Math.max(1, Math.floor(host.clientWidth / 215)), rows = Math.ceil(shown.length / fitting);
  const columns = Math.ceil(shown.length / rows);
  host.style.cssText = `display:grid;grid-template-columns:repeat(${columns},minmax(0,1fr));gap:14px 18px`;
  host.replaceChildren();
  const domain = betterHalf(trials.map((t) => t.best[OBJ.name]));
  for (const p of shown) {
    const cell = host.appendChild(html("div"));
    const [svg, width, height] = canvas(cell, 190, `${OBJ.name} over ${p.name}`);
    const box = [46, 22, width - 8, height - 26];
    const x = parameterScale(p, [box[0] + 8, box[2] - 8], 14), y = linear(domain, [box[3], box[1]]);
    for (const v of y.ticks(3)) {
      svg.append(el("line", { class: "gridline", x1: box[0], x2: box[2], y1: y(v), y2: y(v) }));
      svg.append(Object.assign(el("text", { x: box[0] - 6, y: y(v) + 4, "text-anchor": "end" }), { textContent: fmt(v) }));
    }
    const ticks = x.ticks(3), every = Math.ceil(ticks.length / Math.max(2, Math.floor((width - 60) / 54)));
    ticks.forEach((v, i) => {
      if (i % every === 0) svg.append(Object.assign(el("text", { x: x(v), y: box[3] + 17, "text-anchor": "middle" }), { textContent: clipped(fmt(v), ((width - 60) * every) / ticks.length) }));
    });
    svg.append(el("line", { class: "axis", x1: box[0], x2: box[2], y1: box[3], y2: box[3] }));
    const name = Object.assign(el("text", { x: box[0], y: 12, class: "strong" }), { textContent: clipped(label(p.name), width - 60) });
    name.append(Object.assign(el("title"), { textContent: p.name }));
    svg.append(name);
    const points = [];
    for (const t of [...trials].sort((a, b) => GOLD.has(a.trial) - GOLD.has(b.trial))) {
      if (!(p.name in t.params)) continue;
      const jitter = p.values ? (((t.trial * 0.618034) % 1) - 0.5) * Math.min(22, (box[2] - box[0]) / (2.4 * p.values.length)) : 0;
      const px = x(t.params[p.name]) + jitter, py = Math.min(box[3], Math.max(box[1], y(t.best[OBJ.name])));
      points.push([px, py, t.trial, ""]);
      svg.append(el("circle", { class: GOLD.has(t.trial) ? "dot best" : "dot", "data-t": t.trial, cx: px, cy: py, r: GOLD.has(t.trial) ? 5 : 3.2, fill: endingColor(t.ending) }));
    }
    nearest(svg, width, points, 18);
  }
}

function drawPareto(host) {
  const [a, b] = R.objectives;
  const [svg, width, height] = canvas(host, 320, `${a.name} against ${b.name}`);
  const box = inner(width, height), shown = TRIALS.filter((t) => t.best && t.best[a.name] !== null && t.best[b.name] !== null);
  const span = (o) => { const v = shown.map((t) => t.best[o.name]), lo = Math.min(...v), hi = Math.max(...v), pad = (hi - lo) * 0.06 || 1; return [lo - pad, hi + pad]; };
  if (!shown.length) return;
  const x = linear(span(a), [box[0], box[2]]), y = linear(span(b), [box[3], box[1]]);
  axes(svg, x, y, box, [`${a.name} (${a.goal})`, `${b.name} (${b.goal})`]);
  const front = R.pareto.map((n) => TRIALS[n]).filter((t) => shown.includes(t)).sort((p, q) => p.best[a.name] - q.best[a.name]);
  if (front.length > 1 && R.objectives.length === 2) {
    const path = front.map((t) => `${x(t.best[a.name])},${y(t.best[b.name])}`).join("L");
    svg.append(el("path", { d: `M${path}`, fill: "none", stroke: "var(--gold)", "stroke-width": 2, "stroke-dasharray": "4 3" }));
  }
  const points = [];
  for (const t of [...shown].sort((p, q) => R.pareto.includes(p.trial) - R.pareto.includes(q.trial))) {
    const onFront = R.pareto.includes(t.trial), px = x(t.best[a.name]), py = y(t.best[b.name]);
    points.push([px, py, t.trial, t.trial === BEST ? "the compromise" : onFront ? "on the Pareto front" : ""]);
    svg.append(el("circle", { class: onFront ? "dot best" : "dot", "data-t": t.trial, cx: px, cy: py, r: onFront ? 5.5 : 3.4, fill: endingColor(t.ending) }));
    if (t.trial !== BEST) continue;
    svg.append(el("circle", { cx: px, cy: py, r: 10, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5, "data-mark": "compromise" }));
    const isRight = px > (box[0] + box[2]) / 2;
    svg.append(Object.assign(el("text", { x: px + (isRight ? -15 : 15), y: py + 4, "text-anchor": isRight ? "end" : "start", class: "strong" }), { textContent: "compromise" }));
  }
  for (const w of R.wishes) {
    const isX = w.name === a.name, scale = isX ? x : y, end = scale(w.reference);
    if (w.reference === null || !(isX || w.name === b.name) || end < Math.min(...(isX ? [box[0], box[2]] : [box[1], box[3]])) || end > Math.max(...(isX ? [box[0], box[2]] : [box[1], box[3]]))) continue;
    const ends = isX ? { x1: end, x2: end, y1: box[1], y2: box[3] } : { x1: box[0], x2: box[2], y1: end, y2: end };
    svg.append(el("line", { ...ends, stroke: "var(--running)", "stroke-dasharray": "5 4" }));
  }
  nearest(svg, width, points);
}

function drawHypervolume(host) {
  const [svg, width, height] = canvas(host, 320, "Hypervolume over time"), box = inner(width, height), steps = R.hypervolume;
  const x = linear([0, R.sweep.elapsed_s || 1], [box[0], box[2]]), y = linear([0, Math.max(0.01, steps[steps.length - 1].value) * 1.05], [box[3], box[1]]);
  axes(svg, x, y, box, ["time", "share of the box"], [(v) => duration(v), fmt]);
  let path = `M${x(steps[0].at_s)},${y(0)}`;
  for (const s of steps) path += `H${x(s.at_s)}V${y(s.value)}`;
  svg.append(el("path", { class: "step", d: `${path}H${box[2]}` }));
  nearest(svg, width, steps.map((s) => [x(s.at_s), y(s.value), s.trial, `hypervolume ${fmt(s.value)} at ${duration(s.at_s)}`]));
}
