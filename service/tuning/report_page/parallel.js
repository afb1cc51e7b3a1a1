// Parallel coordinates: one axis per parameter and objective; drag on axes to keep only the trials inside.
const LEAST_COLUMN = 88; // narrower, and the names would touch: the chart scrolls sideways instead
const brushes = new Map(); // axis index -> [top, bottom] in pixels

function drawParallel(host, onFilter) {
  const shown = TRIALS.filter((t) => t.best && t.best[OBJ.name] !== null);
  const columns = [
    ...R.parameters.map((p) => ({ name: label(p.name), full: p.name, p, of: (t) => (p.name in t.params ? t.params[p.name] : null) })),
    ...R.objectives.map((o) => ({ name: o.name, full: `${o.name} (${o.goal})`, o, of: (t) => t.best[o.name] })),
  ];
  const [svg, width, height] = canvas(host, 360, "Parallel coordinates of all trials", columns.length * LEAST_COLUMN);
  const room = (width - 108) / Math.max(1, columns.length - 1) - 12;
  const top = 44, bottom = height - 34, gap = 16; // below the axis: where a parameter is not active
  const x = linear([0, Math.max(1, columns.length - 1)], [54, width - 54]);
  columns.forEach((c) => {
    if (c.p) c.at = parameterScale(c.p, [bottom, top], 12);
    else {
      const v = shown.map(c.of).filter((one) => one !== null);
      c.at = linear(c.o === OBJ ? robust(v) : [Math.min(...v), Math.max(...v)], [bottom, top]);
    }
  });
  const place = (c, t) => {
    const v = c.of(t);
    return v === null ? bottom + gap : Math.min(bottom, Math.max(top, c.at(v)));
  };
  const lines = shown.map((t) => ({ t, ys: columns.map((c) => place(c, t)) }));
  lines.sort((a, b) => (STANDING.get(a.t.trial) ?? -1) - (STANDING.get(b.t.trial) ?? -1));
  for (const { t, ys } of lines) {
    let d = `M${x(0)},${ys[0]}`;
    for (let i = 1; i < ys.length; i++) {
      const mid = (x(i - 1) + x(i)) / 2;
      d += `C${mid},${ys[i - 1]} ${mid},${ys[i]} ${x(i)},${ys[i]}`;
    }
    const isBest = GOLD.has(t.trial);
    svg.append(el("path", { class: isBest ? "curve best" : "curve", "data-t": t.trial, stroke: isBest ? null : standingColor(t.trial), d, style: isBest ? null : "stroke-opacity:.75" }));
  }
  columns.forEach((c, i) => drawAxis(svg, { ...c, x: x(i), room }, [top, bottom], (range) => {
    if (range === null) brushes.delete(i);
    else brushes.set(i, range);
    kept = brushes.size === 0 ? null : new Set(lines.filter(({ ys }) => [...brushes].every(([k, [a, b]]) => ys[k] >= a && ys[k] <= b)).map(({ t }) => t.trial));
    applyFilter();
    onFilter();
  }, brushes.get(i)));
  const points = lines.flatMap(({ t, ys }) => ys.map((y, i) => [x(i), y, t.trial, ""]));
  nearest(svg, width, points, 14);
}

function drawAxis(svg, column, [top, bottom], onBrush, range) {
  const { x, room } = column;
  const wanted = column.at.ticks(5), every = Math.ceil(wanted.length / 9);
  svg.append(el("line", { x1: x, x2: x, y1: top, y2: bottom, stroke: "var(--faint)" }));
  const title = el("text", { x, y: 18, "text-anchor": "middle", class: "strong" });
  title.textContent = clipped(column.name, room);
  title.append(Object.assign(el("title"), { textContent: column.full }));
  svg.append(title);
  wanted.forEach((v, i) => {
    if (i % every) return;
    const text = el("text", { x: x + 7, y: column.at(v) + 4, "paint-order": "stroke", stroke: "var(--card)", "stroke-width": 4, "stroke-linejoin": "round" });
    text.textContent = clipped(fmt(v), room - 8);
    svg.append(text);
  });
  if (column.p && column.p.conditional) {
    svg.append(Object.assign(el("text", { x, y: bottom + 32, "text-anchor": "middle" }), { textContent: "not active" }));
    svg.append(el("circle", { cx: x, cy: bottom + 16, r: 2.5, fill: "var(--faint)" }));
  }
  const mark = el("rect", { class: "brush", x: x - 9, width: 18, y: range ? range[0] : 0, height: range ? range[1] - range[0] : 0, rx: 4 });
  const grab = el("rect", { class: "grab", x: x - 16, width: 32, y: top - 6, height: bottom - top + 30 });
  svg.append(mark, grab);
  grab.addEventListener("pointerdown", (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.height / box.height;
    const at = (e) => Math.min(bottom + 22, Math.max(top - 6, (e.clientY - box.top) * scale));
    const from = at(event);
    grab.setPointerCapture(event.pointerId);
    const move = (e) => {
      const a = Math.min(from, at(e)), b = Math.max(from, at(e));
      mark.setAttribute("y", a);
      mark.setAttribute("height", b - a);
      if (b - a > 3) onBrush([a, b]);
    };
    const up = (e) => {
      grab.removeEventListener("pointermove", move);
      if (Math.abs(at(e) - from) <= 3) {
        mark.setAttribute("height", 0);
        onBrush(null);
      }
    };
    grab.addEventListener("pointermove", move);
    grab.addEventListener("pointerup", up, { once: true });
  });
}
