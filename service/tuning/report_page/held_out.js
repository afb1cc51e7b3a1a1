// The winner's test on data that the search never saw.

function heldOutTable(tested) {
  const names = tested.scores.map((s) => s.name), isOne = tested.fits.length === 1;
  const head = html("tr"), body = html("tbody");
  for (const name of ["trial", ...(isOne ? [] : ["fold", "seed"]), "epoch", ...names]) head.append(html("th", { class: "num", scope: "col" }, name));
  const add = (cells, title, kind) => {
    const row = html("tr", { title, class: kind });
    for (const cell of cells) row.append(html("td", { class: "num" }, typeof cell === "string" ? cell : fmt(cell)));
    body.append(row);
  };
  for (const f of tested.fits) add([f.fit, ...(isOne ? [] : [f.fold, f.seed]), f.epoch, ...names.map((n) => (n in f.metrics ? f.metrics[n] : null))], f.cause || null, null);
  if (!isOne && names.length) add(["mean", "", "", "", ...tested.scores.map((s) => (s.deviation === null ? fmt(s.mean) : `${fmt(s.mean)} ± ${fmt(s.deviation)}`))], null, "best");
  const causes = [...new Set(tested.fits.filter((f) => f.cause && !names.some((n) => n in f.metrics)).map((f) => f.cause))];
  const table = html("div", { class: "scroll" }, html("table", {}, html("thead", {}, head), body));
  return [table, ...causes.map((cause) => html("p", { class: "warn" }, `no score: ${cause}`))];
}
