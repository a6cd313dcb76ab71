// Tables: click a heading to sort; copy as CSV or LaTeX.
function cells(row) { return [...row.children].map(c => c.textContent.trim()); }
function amount(text) {
  const match = text.replace(/,/g, "").replace("−", "-").replace("< ", "").match(/^[+-]?[\d.]+/);
  return match ? parseFloat(match[0]) : null;
}
function sortBy(table, place, button) {
  const body = table.tBodies[0], rows = [...body.rows];
  const up = button.getAttribute("aria-sort") !== "ascending";
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  button.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => cells(row)[place] ?? "";
  const numbers = rows.some(row => amount(key(row)) !== null);
  rows.sort((a, b) => {
    if (!numbers) return key(a).localeCompare(key(b)) * (up ? 1 : -1);
    const x = amount(key(a)), y = amount(key(b));
    if (x === null || y === null) return (x === null) - (y === null);
    return (x - y) * (up ? 1 : -1);
  });
  body.append(...rows);
}
function asCsv(table) {
  const guard = text => /^[=+\-@\t\r]./.test(text) && isNaN(text) ? "'" + text : text;
  const quote = text => /[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  return [...table.rows].map(row => cells(row).map(guard).map(quote).join(",")).join("\n");
}
function asLatex(table) {
  const escape = text => text.replace(/\\/g, "\\textbackslash ").replace(/[&%$#_{}]/g, "\\$&").replace(/−/g, "$-$").replace(/†/g, "$\\dagger$").replace(/×/g, "$\\times$");
  const [head, ...rows] = [...table.rows].map(row => cells(row).map(escape).join(" & ") + " \\\\");
  const columns = [...table.tHead.rows[0].cells].map(c => c.classList.contains("n") ? "r" : "l").join("");
  return ["\\begin{tabular}{" + columns + "}", "\\toprule", head, "\\midrule", ...rows, "\\bottomrule", "\\end{tabular}"].join("\n");
}
async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); }
  catch { const area = document.createElement("textarea"); area.value = text; document.body.append(area); area.select(); document.execCommand("copy"); area.remove(); }
  const before = button.textContent; button.textContent = "copied"; setTimeout(() => button.textContent = before, 1200);
}
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    head.tabIndex = 0; head.setAttribute("role", "button");
    head.addEventListener("click", () => sortBy(table, place, head));
    head.addEventListener("keydown", event => { if (event.key === "Enter") sortBy(table, place, head); });
  });
  const bar = document.createElement("div"); bar.className = "copies";
  for (const [name, make] of [["copy CSV", asCsv], ["copy LaTeX", asLatex]]) {
    const button = document.createElement("button"); button.type = "button"; button.textContent = name;
    button.addEventListener("click", () => copy(make(table), button)); bar.append(button);
  }
  table.parentElement.after(bar);
}
// Charts: expressions are interpreted, so that the page needs no permission to make code from text.
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const place of document.querySelectorAll("[data-chart]"))
  vegaEmbed(place, charts[place.dataset.chart], {ast: true, actions: {export: true, source: false, compiled: false, editor: false}, renderer: "svg"})
    .then(() => {
      place.querySelector("summary")?.setAttribute("aria-label", "Save this chart");
      for (const layer of place.querySelectorAll("g[role='graphics-symbol']:empty")) layer.setAttribute("aria-hidden", "true");
    });
