// The table of configurations that were trained on several folds or seeds.

function raceTable(race) {
  const head = html("tr"), body = html("tbody");
  const columns = ["trial", "mean", "± standard error", "fits", "best with probability", "on fresh seeds"];
  for (const name of columns) head.append(html("th", { class: "num", scope: "col" }, name));
  for (const c of race.configurations.slice(0, 20)) {
    const chance = c.probability_best === null ? null : `${(100 * c.probability_best).toFixed(1)} %`;
    const title = c.values.map(([fold, seed, value]) => `fold ${fold}, seed ${seed}: ${fmt(value)}`).join("\n");
    const row = html("tr", { "data-t": c.trial, class: GOLD.has(c.trial) ? "best" : null, title });
    for (const v of [c.trial, c.mean, c.error, c.fits, chance, c.fresh_mean]) row.append(html("td", { class: "num" }, v === null ? "–" : typeof v === "string" ? v : fmt(v)));
    body.append(row);
  }
  return html("div", { class: "scroll" }, html("table", {}, html("thead", {}, head), body));
}
