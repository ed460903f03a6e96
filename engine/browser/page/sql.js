// One SELECT over the tables; nothing that writes gets through. An answer with patch_id can be looked at as patches.
import { ask, count, failed, h, link, number } from "./dom.js";
import { follow, Ids } from "./trail.js";

const FIRST = "SELECT patch_id, difficulty, video_id, time_ms\nFROM patches\nORDER BY difficulty DESC\nLIMIT 100";

export async function show(main, { q = "" }, state) {
  const field = h("textarea", { value: q || FIRST, spellcheck: false, "aria-label": "SQL, one SELECT" });
  const told = h("p", { role: "status", class: "quiet" }, "Tables: patches, frames, videos, selections, images, journal, and once they are made tags, alike, drift and results. Ctrl+Enter asks."), found = h("div", { class: "scroll" });
  const shown = h("a", { class: "button", hidden: true }, "Show as patches");
  const run = async () => {
    told.textContent = "Asking …";
    found.replaceChildren();
    shown.hidden = true;
    try {
      const { columns, rows, more } = await ask("sql", { q: field.value });
      told.textContent = more ? `The first ${count(rows.length)} rows; there are more` : `${count(rows.length)} rows`;
      const isNumber = columns.map((_, at) => rows.some(row => typeof row[at] === "number"));
      const ids = columns.includes("patch_id") ? rows.map(row => row[columns.indexOf("patch_id")]).filter(Boolean) : [];
      found.replaceChildren(table(columns, rows, isNumber, new Ids(ids)));
      shown.href = link("patches", { sql: field.value });
      shown.hidden = !columns.includes("patch_id");
      history.replaceState(null, "", link("sql", { q: field.value }));
    } catch (error) { told.textContent = ""; found.replaceChildren(h("p", { class: "missing", role: "alert" }, error.message)); if (!error.status) failed(error); }
  };
  field.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
    if (event.key === "Escape") field.blur();
  });
  main.replaceChildren(h("div", { class: "page" }, h("h1", {}, "Ask in SQL"), h("div", { class: "card" }, field, h("p", {}), h("div", { class: "row" }, h("button", { type: "button", class: "main", onclick: run }, "Ask"), shown, h("span", { class: "grow" }, told))), found));
  field.focus();
  if (q) run();
  return { pressed: event => { if (event.key !== "Escape") return false; location.hash = link("patches", state.words); return true; } };
}

function table(columns, rows, isNumber, list) {
  const heads = columns.map((name, at) => h("th", { scope: "col", class: isNumber[at] ? "n" : "" }, name));
  const cell = (value, at) => h("td", { class: isNumber[at] ? "n" : "" }, shown(columns[at], value, list));
  return h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map(row => h("tr", {}, row.map(cell)))));
}

function shown(column, value, list) {
  if (value === null) return "";
  if (column === "patch_id") return h("a", { class: "id", href: link("patch", { id: value }), onclick: () => follow(list, list.ids.indexOf(value), value) }, value);
  if (column === "video_id") return h("a", { class: "id", href: link("video", { id: value }) }, value);
  return typeof value === "number" ? number(value) : String(value);
}
