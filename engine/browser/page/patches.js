// The grid of patches, and the list of frames with what the gate said of each.
import { clock, count, failed, h, isNowhere, isRejected, link, many, number, short, verdict } from "./dom.js";
import { chips, Filters, titled } from "./filters.js";
import { Grid } from "./grid.js";
import { TITLES } from "./histogram.js";
import { Taking } from "./take.js";
import { follow } from "./trail.js";
import { view } from "./views.js";

const held = {}; // of each table the view that was shown last, and where in it somebody was
const INTO_THE_GRID = ["ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft", "Enter"];

export async function show(main, words, state, table = "patches") {
  const page = new Page(main, table, state);
  await page.again(words);
  return page;
}

class Page {
  constructor(main, table, state) {
    Object.assign(this, { main, table, state, turn: 0 });
    this.filters = new Filters(table, state.overview, words => this.go(words), () => this.browse.classList.remove("open"));
    this.grid = new Grid({
      label: table,
      cell: table === "patches" ? picture : line,
      size: width => table === "patches" ? { wide: width < 500 ? 116 : 168 } : { wide: width, high: width < 500 ? 64 : 44 },
      open: index => this.open(index),
      moved: index => { this.view.at = index; },
      stale: () => this.load(this.words).catch(failed),
    });
    this.taking = new Taking(state, {
      written: async () => { await state.renew(); this.filters.offer(state.overview); },
      stale: () => this.load(this.words).catch(failed),
    });
    this.browse = h("div", { class: "browse" }, this.filters.host, this.bar(), this.grid.host);
    if (matchMedia("(min-width: 761px)").matches && localStorage.getItem("filters") === "closed") this.browse.classList.add("closed");
    main.replaceChildren(this.browse);
  }

  // Its parts stay, so that whoever has pressed one of them can press it again.
  bar() {
    this.count = h("span", { class: "count", role: "status" });
    this.chips = h("span", { class: "chips" });
    this.order = h("select", { "aria-label": "sort by", onchange: () => this.filters.change({ sort: this.order.value }) });
    this.turned = h("button", { type: "button", title: "turn the order round", onclick: () => this.turnRound() });
    return h("div", { class: "bar" },
      h("h1", { class: "unseen" }, this.table === "patches" ? "Patches" : "Frames"),
      h("button", { type: "button", "aria-controls": "filters", onclick: () => this.toggle() }, "Filters"),
      this.count, this.chips,
      h("span", { class: "push row" }, h("small", {}, "sort"), this.order, this.turned, this.table === "patches" && this.taking.host));
  }

  go(words) {
    const { table, ...rest } = words;
    location.hash = link(this.table, rest);
  }

  // What is asked for now, on the same page.
  async again(words) {
    this.filters.offer(this.state.overview);
    await this.load(this.table === "frames" ? { table: "frames", ...words } : words);
  }

  async load(words) {
    const turn = ++this.turn;
    this.words = words;
    this.asked = this.table === "patches" && !words.sort && !ordered(words) ? { ...words, sort: "difficulty", down: "1" } : words;
    const made = await view(this.asked); // before the histograms: what is refused is told once, and SQL is asked once at a time
    if (turn !== this.turn) return; // something else was asked for meanwhile
    this.filters.set(words);
    const last = held[this.table];
    held[this.table] = this.view = last?.key === made.key ? last : made;
    this.tell(made);
    this.grid.show(this.view);
    this.grid.host.querySelector(".missing")?.remove();
    const nothing = made.of ? "Nothing fits all filters." : "The store holds none yet.";
    if (!made.rows) this.grid.host.append(h("p", { class: "missing" }, nothing));
    if (isNowhere()) this.grid.host.focus({ preventScroll: true });
  }

  tell(found) {
    this.count.replaceChildren(`${count(found.rows)} of ${count(found.of)}`, h("small", {}, ` ${this.table}`));
    this.chips.replaceChildren(...chips(this.words, words => this.filters.change(words)));
    this.order.replaceChildren(...this.orders().map(([value, text]) => h("option", { value }, text)));
    this.order.value = this.asked.sort ?? "";
    this.turned.textContent = this.isDown ? "↓" : "↑";
    this.turned.setAttribute("aria-label", `${this.isDown ? "highest" : "lowest"} first; turn round`);
    this.taking.of(found);
  }

  get title() { return titled(this.table, this.words); }

  get isDown() { return this.asked.down === "1"; }

  orders() {
    const list = ordered(this.asked), numbers = this.state.overview.numbers[this.table].map(name => [name, TITLES[name]]);
    if (list) return [["", `as in the ${list}`], ...numbers];
    return this.table === "frames" ? [["", "as taken in"], ...numbers] : numbers;
  }

  turnRound() { this.filters.change({ sort: this.asked.sort ?? "", down: this.isDown ? "" : "1" }); }

  toggle() {
    if (matchMedia("(max-width: 760px)").matches) this.browse.classList.toggle("open");
    else localStorage.setItem("filters", this.browse.classList.toggle("closed") ? "closed" : "open");
    if (isSeen(this.filters.host)) this.filters.focus();
    else this.grid.host.focus();
  }

  showFilters() {
    if (isSeen(this.filters.host)) this.filters.focus();
    else this.toggle();
  }

  open(index) {
    const row = this.grid.row(index);
    if (!row) return;
    this.view.at = index;
    if (this.table === "patches") {
      follow(this.view, index, row.patch_id);
      location.hash = link("patch", { id: row.patch_id });
    } else if (row.patches) location.hash = link("patches", { video: row.video_id, time_ms: `${row.time_ms},${row.time_ms}` });
    else location.hash = link("video", { id: row.video_id, at: row.time_ms });
  }

  pressed(event) {
    if (event.key === "f" || (event.key === "Escape" && this.browse.classList.contains("open"))) {
      this.toggle();
      return true;
    }
    if (!INTO_THE_GRID.includes(event.key) || !isNowhere()) return false;
    this.grid.host.focus();
    this.grid.pressed(event);
    return true;
  }

  close() {
    this.turn++;
    this.grid.close();
    this.filters.close();
  }
}

const isSeen = part => part.getClientRects().length > 0;
const ordered = words => ["like", "sql", "selection", "tag"].find(name => words[name]);

function picture(row) {
  if (!row) return h("div", { class: "cell" }, h("div", { class: "shot" }));
  const told = `difficulty ${number(row.difficulty)}`, where = `${clock(row.time_ms)} of ${short(row.video_id)}`;
  return h("div", { class: "cell", "aria-label": `${told}, ${where}` },
    h("div", { class: "shot" }, h("img", { src: row.url, alt: "", draggable: false })),
    h("b", {}, number(row.difficulty)), h("span", {}, where));
}

function line(row) {
  if (!row) return h("div", { class: "cell line" });
  const measured = `sharpness ${number(row.sharpness)}, brightness ${number(row.brightness)}, tissue ${number(row.tissue)}`;
  return h("div", { class: "cell line" },
    h("b", { class: isRejected(row.reason) ? "alarm" : "" }, verdict(row.reason)),
    h("span", { class: "where" }, h("span", {}, clock(row.time_ms)), h("span", { class: "id" }, short(row.video_id))),
    h("span", { class: "why" }, row.detail ?? many(row.patches, "patch", "patches")),
    h("span", { class: "far" }, measured));
}
