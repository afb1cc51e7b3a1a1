// The page: headline figures, cards in order, the table, the best configuration.
const TABLE_ROWS = 25;
let tableHost, redraw; // set by build(); charts and buttons call back into them
const sorting = { key: "rank", isDown: false, isAll: false };

function card(size, title, hint, ...right) {
  const body = html("div"), head = html("header", {}, html("h2", {}, title));
  if (right.length) head.append(html("div", { class: "right" }, ...right));
  const node = html("section", { class: `card ${size}`, "aria-label": title }, head, html("p", { class: "hint" }, hint), body);
  return [node, body];
}

function toggle(options, onPick) {
  const buttons = options.map((text, i) => html("button", { type: "button", "aria-pressed": String(i === 0), onclick: () => {
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i)));
    onPick(i);
  } }, text));
  const wrap = html("span", { style: "display:inline-flex;gap:4px" }, ...buttons);
  return wrap;
}

function legend(entries) {
  const wrap = html("div", { class: "keys" });
  for (const [color, text] of entries) wrap.append(html("span", {}, html("i", { style: `background:var(--${color})` }), text));
  return wrap;
}
const keys = (endings) => legend(endings.map((ending) => [ending, `${R.endings[ending]} ${ending}`]));

function headline() {
  const present = ENDINGS.filter((e) => R.endings[e]), s = R.sweep, best = R.best;
  const figure = (name, value, note, extra) => {
    const node = html("div", { class: "card s3" }, html("div", { class: "label" }, name));
    const number = html("div", { class: "figure" });
    number.innerHTML = value;
    node.append(number);
    if (extra) node.append(...extra);
    if (note) node.append(html("div", { class: "note" }, note));
    return node;
  };
  const mix = html("div", { class: "mix" });
  for (const e of present) mix.append(html("span", { style: `flex:${R.endings[e]};background:var(--${e})`, title: `${R.endings[e]} ${e}` }));
  const saved = R.cost.saved_share > 0 ? `${Math.round(100 * R.cost.saved_share)} % fewer than ${R.cost.epochs_without_stopping} without early stopping` : `${R.cost.epochs_without_stopping} at most`;
  const hours = `${duration(R.cost.train_seconds)} of training${R.cost.gpu_hours ? `, ${fmt(R.cost.gpu_hours)} GPU hours` : ""}`;
  const extremes = R.objectives.map((o) => {
    const values = R.pareto.map((n) => TRIALS[n].best[o.name]);
    return `${o.name} ${o.goal === "minimize" ? "down" : "up"} to ${fmt(o.goal === "minimize" ? Math.min(...values) : Math.max(...values))}`;
  });
  const isFront = !IS_SINGLE && R.pareto.length > 0;
  return [
    isFront ? figure("Pareto front", `${R.pareto.length} trial${R.pareto.length === 1 ? "" : "s"}`, extremes.join(" · ")) : figure(`Best ${esc(OBJ.name)}`, best ? fmt(best.values[OBJ.name]) : "–", best ? `trial ${best.trial}, epoch ${best.epoch} · ${OBJ.goal}${OBJ.target !== null ? `, target ${fmt(OBJ.target)}` : ""}` : "no trial has a result that counts"),
    figure("Trials", String(CONFIGURATIONS.length), null, [mix, keys(present)]),
    figure("Epochs trained", String(R.cost.epochs), saved),
    figure("Time", duration(R.cost.active_seconds || s.elapsed_s), hours),
  ];
}

const COLUMNS = [
  { key: "rank", name: "#", of: (t) => R.ranking.indexOf(t.trial) < 0 ? null : R.ranking.indexOf(t.trial) + 1, num: true },
  { key: "trial", name: "trial", of: (t) => t.trial, num: true },
  ...R.objectives.map((o) => ({ key: `o:${o.name}`, name: o.name, of: (t) => (t.best ? t.best[o.name] : null), num: true })),
  { key: "best_epoch", name: "at epoch", of: (t) => t.best_epoch, num: true },
  { key: "epochs", name: "epochs", of: (t) => t.epochs, num: true },
  { key: "ending", name: "ending", of: (t) => t.ending },
  { key: "seconds", name: "train time", of: (t) => t.seconds, num: true, show: duration },
  ...R.parameters.map((p) => ({ key: p.name, name: label(p.name), full: p.name, of: (t) => (p.name in t.params ? t.params[p.name] : null), num: !p.values })),
];

function drawTable(host) {
  const column = COLUMNS.find((c) => c.key === sorting.key), flip = sorting.isDown ? -1 : 1;
  const shown = CONFIGURATIONS.filter((t) => kept === null || kept.has(t.trial)).sort((a, b) => {
    const [u, v] = [column.of(a), column.of(b)];
    if (u === null || v === null) return (u === null) - (v === null) || a.trial - b.trial;
    return flip * (typeof u === "number" && typeof v === "number" ? u - v : String(u).localeCompare(String(v))) || a.trial - b.trial;
  });
  const head = html("tr"), body = html("tbody");
  for (const c of COLUMNS) {
    const sort = c.key === sorting.key ? (sorting.isDown ? "descending" : "ascending") : null;
    const press = () => {
      sorting.isDown = sorting.key === c.key && !sorting.isDown;
      sorting.key = c.key;
      drawTable(host);
    };
    head.append(html("th", { class: c.num ? "num" : null, "aria-sort": sort, scope: "col" }, html("button", { type: "button", title: c.full || c.name, onclick: press }, c.name + (sort ? (sorting.isDown ? " ↓" : " ↑") : ""))));
  }
  for (const t of shown.slice(0, sorting.isAll ? 2000 : TABLE_ROWS)) {
    const row = html("tr", { "data-t": t.trial, class: GOLD.has(t.trial) ? "best" : null, onmouseenter: () => hover(t.trial), onmouseleave: () => hover(null) });
    for (const c of COLUMNS) {
      const v = c.of(t), cell = html("td", { class: c.num ? "num" : null, title: v === null ? "not set" : String(v) });
      if (c.key === "ending") cell.append(html("span", { class: "pill", title: t.cause }, html("i", { style: `background:var(--${v})` }), v));
      else cell.textContent = v === null ? "–" : c.show ? c.show(v) : fmt(v);
      row.append(cell);
    }
    body.append(row);
  }
  const table = html("div", { class: "scroll" }, html("table", {}, html("thead", {}, head), body));
  host.replaceChildren(table);
  const more = shown.length - TABLE_ROWS;
  if (more > 0) host.append(html("p", { class: "note" }, html("button", { type: "button", onclick: () => { sorting.isAll = !sorting.isAll; drawTable(host); } }, sorting.isAll ? "Show fewer" : `Show ${more} more`)));
}

function copyButton(text) {
  const button = html("button", { type: "button", onclick: async () => {
    let isDone = false;
    try {
      await navigator.clipboard.writeText(text);
      isDone = true;
    } catch { // an embedding page may keep the clipboard from us: the old way, then a selection to copy by hand
      const area = html("textarea", { style: "position:fixed;opacity:0" });
      area.value = text;
      document.body.append(area);
      area.select();
      isDone = document.execCommand("copy");
      area.remove();
    }
    button.textContent = isDone ? "Copied ✓" : "Select and copy by hand";
    setTimeout(() => { button.textContent = "Copy"; }, 1800);
  } }, "Copy");
  return button;
}

function bestText() {
  if (R.best_yaml) return R.best_yaml;
  const lines = R.best ? Object.entries(R.best.params).map(([k, v]) => `${k}: ${typeof v === "string" ? v : JSON.stringify(v)}`) : [];
  return lines.join("\n");
}

function list(pairs) {
  const node = html("dl");
  for (const [name, value] of pairs) node.append(html("dt", {}, name), html("dd", {}, String(value)));
  return node;
}

function about() {
  const s = R.sweep;
  const pairs = [["started", new Date(s.started_at * 1000).toLocaleString()], ["searcher", s.search], ["scheduler", `${s.scheduler}, rungs ${s.rungs.join(", ")}`], ["seed", s.seed]];
  for (const c of R.constraints) pairs.push(["constraint", c]);
  for (const b of R.budget) pairs.push([b.name.replace(/_/g, " "), `${fmt(b.used)} of ${fmt(b.limit)}`]);
  if (R.outlook.expected_improvement !== null) pairs.push(["expected gain of another trial", `${fmt(R.outlook.expected_improvement)} (${R.outlook.unit})`]);
  for (const [name, value] of Object.entries(s.facts)) pairs.push([name.replace(/_/g, " "), value]);
  return list(pairs);
}

function failureList() {
  return R.failures.map((f) => {
    const [first, ...rest] = f.cause.trim().split("\n");
    const of = `trial${f.trials.length === 1 ? "" : "s"} ${f.trials.join(", ")}${f.count > f.trials.length ? ", …" : ""}`;
    const head = html("div", {}, html("b", {}, `${f.count} × ${f.ending}`), html("span", { class: "note" }, ` · ${of}`));
    const node = html("div", { class: "warn", style: `border-color:var(--${f.ending})` }, head, html("div", { class: "mono" }, first || "no cause on record"));
    if (rest.length) node.append(html("details", {}, html("summary", {}, "all of it"), html("pre", {}, f.cause)));
    return node;
  });
}

function wishText() {
  const parts = R.wishes.flatMap((w) => [...(w.weight === 1 ? [] : [`${w.name} by weight ${fmt(w.weight)}`]), ...(w.reference === null ? [] : [`${w.name} at least as good as ${fmt(w.reference)}`])]);
  return parts.length ? ` (${parts.join(", ")})` : " (all weigh the same)";
}

function charts(add) {
  const present = ENDINGS.filter((e) => R.endings[e]), isGood = R.best !== null, isAny = TRIALS.some((t) => t.curve.length);
  let byTime = true, curveOf = 0, importanceOf = 0, effectsOf = 0;
  if (isGood) add("s6", `Best ${IS_SINGLE ? "" : `${OBJ.name} `}so far`, "Line: the best value up to then. Dots: trials at their end, poor ones on the edge.", (b) => drawBestSoFar(b, byTime), toggle(["time", "epochs"], (i) => { byTime = i === 0; redraw(); }));
  const choose = (onPick) => (IS_SINGLE ? [] : [toggle(R.objectives.map((o) => o.name), (i) => { onPick(i); redraw(); })]);
  const pick = choose((i) => { curveOf = i; });
  if (isAny) add(isGood ? "s6" : "s12", "Learning curves", `Colour says how the trial ended; gold is ${IS_SINGLE ? "the best one" : "the Pareto front"}; dotted lines are rungs.`, (b) => drawCurves(b, curveOf), keys(present), ...pick);
  const clear = html("button", { type: "button", onclick: () => { brushes.clear(); kept = null; redraw(); } }, "Show all");
  if (isGood && R.parameters.length) add("s12", "Parallel coordinates", `Drag along axes to keep only the trials inside; every chart and the table follow. Stronger colour is better, gold is ${IS_SINGLE ? "best" : "the Pareto front"}.`, (b) => drawParallel(b, () => drawTable(tableHost)), clear);
  if (isAny && R.rungs.length) add(isGood ? "s5" : "s12", "Rung survival", `How many trials reached each rung of ${R.sweep.scheduler}.`, drawRungs, legend([["completed", "went on"], ["stopped", "ended before the next"]]));
  if (isGood) add(isAny && R.rungs.length ? "s7" : "s12", "Parameter importance", `The share of the trials' order${IS_SINGLE ? ` by ${OBJ.name}` : ""} that each parameter explains: full colour by itself, light together with another; with a 90 % interval.`, (b) => drawImportance(b, importanceOf), ...choose((i) => { importanceOf = i; }));
  if (hasInsight("importance")) add("s12", "Effects", "The share of other trials that a trial beats, on average over everything else in the search space, with a 90 % band; last, how the strongest pair works together (stronger colour is better).", (b) => drawEffects(b, effectsOf), ...choose((i) => { effectsOf = i; }));
  if (isGood && R.early_rungs.looks.length) add("s12", "What early epochs foretold", `Rank agreement of the trials at an early epoch with a later one, with a 90 % interval, mended for those that were stopped in between; and whether the best would have been among the one in ${R.early_rungs.factor} that go on.`, drawEarly);
  if (R.race && R.race.configurations.length) add("s12", "Folds and seeds", `${R.race.fits} fits of ${R.race.trials} trials. Means have the difficulty of folds taken out; a trial stops getting fits once it is clearly behind.`, (b) => b.replaceChildren(raceTable(R.race)));
  if (R.held_out) add("s12", "Held-out test", "The best trial on data that the search never saw: no choice was made by these values.", (b) => b.replaceChildren(...heldOutTable(R.held_out)));
  const hasVolume = R.hypervolume.length > 0;
  if (isGood && !IS_SINGLE) add(hasVolume ? "s7" : "s12", "Pareto front", `Gold: no other trial is better in every objective. Ringed: the compromise${wishText()}.`, drawPareto);
  if (isGood && hasVolume) add("s5", "Hypervolume", "How much of the box up to a little beyond the front's worst values is dominated.", drawHypervolume);
  if (isGood && R.parameters.length) add("s12", "Where good values lie", `Best ${OBJ.name} of each trial over its parameters, the most important first; poor ones lie on the edge.`, drawSlices);
  if (!isAny && !R.failures.length) add("s12", "No results yet", "Charts appear once a trial has reported its first epoch.", () => {});
}

function build() {
  const s = R.sweep, page = document.getElementById("page"), grid = html("div", { class: "grid" }, ...headline());
  const head = html("div", { class: "head" }, html("h1", {}, s.name), html("span", { class: `badge ${s.state}` }, s.state));
  const sub = html("p", { class: "sub" }, ...(s.description ? [`${s.description} · `] : []), ...(s.reason ? [`${s.reason} · `] : []), html("span", { class: "mono" }, s.id));
  page.replaceChildren(head, sub, grid);
  const draws = [];
  const add = (size, title, hint, draw, ...right) => {
    const [node, body] = card(size, title, hint, ...right);
    grid.append(node);
    draws.push(() => draw(body));
    return body;
  };
  const addFailures = () => { if (R.failures.length) add("s12", "What went wrong", "Causes of failed and diverged trials, the most frequent first.", (b) => b.replaceChildren(...failureList())); };
  if (!R.best) addFailures();
  charts(add);
  if (R.best) addFailures();
  tableHost = add("s12", "Trials", "Best first; a click on a heading sorts.", drawTable);
  const text = bestText();
  if (text) add("s7", `Best configuration${IS_SINGLE ? "" : `: trial ${BEST}, the compromise`}`, R.best_yaml ? "A plain LightningCLI config: it trains this model again without Tuneyard." : "The parameters of the best trial.", (b) => b.replaceChildren(html("pre", {}, text)), copyButton(text));
  add(text ? "s5" : "s12", "About this sweep", "What ran, on what, within which limits.", (b) => {
    b.replaceChildren(about());
    for (const w of R.warnings) b.append(html("p", { class: "warn" }, w));
  });
  redraw = () => {
    for (const draw of draws) draw();
    applyFilter();
  };
  redraw();
  let last = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === last) return;
    last = innerWidth;
    brushes.clear();
    kept = null;
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
build();
