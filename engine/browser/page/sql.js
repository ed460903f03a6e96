// One SELECT over the tables; nothing that writes gets through. An answer with patch_id can be looked at as patches.
import { ask, failed, h, link, many, number } from "./dom.js";
import { follow, Ids } from "./trail.js";

const FIRST = "SELECT patch_id, difficulty, video_id, time_ms\nFROM patches\nORDER BY difficulty DESC\nLIMIT 100";
const TABLES = "Tables: patches, frames, videos, selections, images, journal, and once they are made tags, alike, drift and results. "
  + "Ctrl+Enter asks.";

const BRIEF = 24; // letters that are kept on one line, as the corners of a box

const kept = { q: "", text: "" }; // what was typed last, asked or not, and the question of the address that it was typed at

export async function show(main, { q = "" }, state) {
  const page = new Page(main, state, kept.text && (!q || kept.q === q) ? kept.text : q || FIRST);
  if (q) page.run(q);
  return page;
}

class Page {
  constructor(main, state, text) {
    Object.assign(this, { state });
    this.field = h("textarea", { value: text, spellcheck: false, "aria-label": "SQL, one SELECT" });
    this.field.addEventListener("input", () => { kept.text = this.field.value; });
    this.field.addEventListener("keydown", event => this.typed(event));
    this.told = h("p", { role: "status", class: "quiet" }, TABLES);
    this.found = h("div", { class: "scroll" });
    this.patches = h("a", { class: "button", hidden: true }, "Show as patches");
    const asks = h("button", { type: "button", class: "main", onclick: () => this.run(this.field.value) }, "Ask");
    main.replaceChildren(h("div", { class: "page" }, h("h1", {}, "Ask in SQL"),
      h("div", { class: "card" }, this.field, h("p", {}),
        h("div", { class: "row" }, asks, this.patches, h("span", { class: "grow" }, this.told))),
      this.found));
    this.field.focus();
  }

  async run(q) {
    this.told.textContent = "Asking …";
    this.found.replaceChildren();
    this.patches.hidden = true;
    try {
      this.answer(q, await ask("sql", { q }));
    } catch (error) {
      this.told.textContent = "";
      this.found.replaceChildren(h("p", { class: "missing", role: "alert" }, error.message));
      if (!error.status) failed(error);
    }
  }

  answer(q, { columns, rows, more }) {
    this.told.textContent = more ? `The first ${many(rows.length, "row")}; there are more` : many(rows.length, "row");
    this.found.replaceChildren(table(columns, rows));
    this.patches.href = link("patches", { sql: q });
    this.patches.hidden = !columns.includes("patch_id");
    if (!this.isClosed) history.replaceState(null, "", link("sql", { q }));
    Object.assign(kept, { q, text: this.field.value });
    if (!this.isClosed) this.state.entitle();
  }

  typed(event) {
    if (event.key === "Escape") this.field.blur();
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    this.run(this.field.value);
  }

  get title() { return `SQL: ${this.field.value.replace(/\s+/g, " ").slice(0, 60)}`; }

  pressed(event) {
    if (event.key !== "Escape") return false;
    location.hash = link("patches", this.state.words);
    return true;
  }

  close() { this.isClosed = true; }
}

function table(columns, rows) {
  const isNumber = columns.map((_, at) => rows.some(row => typeof row[at] === "number")), place = columns.indexOf("patch_id");
  const list = new Ids(place < 0 ? [] : rows.map(row => row[place]).filter(Boolean));
  const heads = columns.map((name, at) => h("th", { scope: "col", class: isNumber[at] ? "n" : "" }, name));
  const kind = (value, at) => isNumber[at] ? "n" : String(value).length <= BRIEF ? "brief" : "";
  const cell = (value, at) => h("td", { class: kind(value, at) }, shown(columns[at], value, list));
  return h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map(row => h("tr", {}, row.map(cell)))));
}

function shown(column, value, list) {
  if (value === null) return h("span", { class: "quiet" }, "NULL");
  if (column === "patch_id") {
    const opened = () => follow(list, list.ids.indexOf(value), value);
    return h("a", { class: "id", href: link("patch", { id: value }), onclick: opened }, value);
  }
  if (column === "video_id") return h("a", { class: "id", href: link("video", { id: value }) }, value);
  return typeof value === "number" ? number(value) : String(value);
}
