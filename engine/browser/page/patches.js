// The grid of patches, and the list of frames with what the gate said of each.
import { address, clock, count, failed, h, link, number, post, say, short } from "./dom.js";
import { chips, Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { TITLES } from "./histogram.js";
import { follow } from "./trail.js";
import { GONE, view } from "./views.js";

const TAGGED = 200; // patches at a time
const held = {}; // of each table the view that was shown last, and where in it somebody was

export async function show(main, words, state, table = "patches") {
  const asked = table === "frames" ? { table, ...words } : words;
  const page = new Page(main, table, state);
  await page.load(asked);
  return page;
}

class Page {
  constructor(main, table, state) {
    Object.assign(this, { main, table, state });
    this.filters = new Filters(table, state.overview, {}, words => this.go(words));
    this.filters.done = () => this.browse.classList.remove("open");
    this.grid = new Grid({
      label: table === "patches" ? "patches" : "frames",
      cell: table === "patches" ? picture : line,
      size: width => table === "patches" ? { wide: width < 500 ? 116 : 168 } : { wide: width, high: width < 500 ? 64 : 44 },
      open: index => this.open(index),
      moved: index => this.moved(index),
      stale: () => this.load(this.words).catch(failed),
    });
    this.bar = h("div", { class: "bar" });
    this.browse = h("div", { class: "browse" }, this.filters.host, this.bar, this.grid.host);
    if (matchMedia("(min-width: 761px)").matches && localStorage.getItem("filters") === "closed") this.browse.classList.add("closed");
    main.replaceChildren(this.browse);
  }

  go(words) {
    const { table, ...rest } = words;
    location.hash = link(this.table, rest);
  }

  async load(words) {
    this.words = words;
    const asked = this.table === "patches" && !words.sort && !ordered(words) ? { ...words, sort: "difficulty", down: "1" } : words;
    this.filters.set(words);
    const made = await view(asked), last = held[this.table], found = last?.key === made.key ? last : made;
    held[this.table] = this.view = found;
    this.grid.show(found);
    this.tell(found, asked);
    this.grid.host.querySelector(".missing")?.remove();
    if (!found.rows) this.grid.host.append(h("p", { class: "missing" }, found.of ? "Nothing fits all filters." : "The store holds none yet."));
    if (document.activeElement === document.body) this.grid.host.focus({ preventScroll: true });
  }

  tell(found, asked) {
    const numbers = this.state.overview.numbers[this.table];
    const sorts = [...(ordered(asked) ? [["", `as in the ${ordered(asked)}`]] : this.table === "frames" ? [["", "as taken in"]] : []), ...numbers.map(name => [name, TITLES[name]])];
    const order = h("select", { "aria-label": "sort by", onchange: event => this.filters.change({ sort: event.target.value }) }, sorts.map(([value, text]) => h("option", { value }, text)));
    order.value = asked.sort ?? "";
    const isDown = asked.down === "1";
    const turned = h("button", {
      type: "button", title: "turn the order round", "aria-label": isDown ? "highest first; turn round" : "lowest first; turn round",
      onclick: () => this.filters.change({ sort: asked.sort ?? "", down: isDown ? "" : "1" }),
    }, isDown ? "↓" : "↑");
    this.bar.replaceChildren(
      h("h1", { class: "unseen" }, this.table === "patches" ? "Patches" : "Frames"),
      h("button", { type: "button", "aria-controls": "filters", onclick: () => this.toggle() }, "Filters"),
      h("span", { class: "count", role: "status" }, `${count(found.rows)} of ${count(found.of)}`, h("small", {}, ` ${this.table}`)),
      ...chips(withoutTable(this.words), name => this.filters.change({ [name]: "", ...(name === "change" ? { against: "", selection: "" } : {}), ...(name === "selection" ? { against: "", change: "" } : {}) })),
      h("span", { class: "push row" }, h("small", {}, "sort"), order, turned, this.table === "patches" && this.taken(found)));
  }

  taken(found) {
    const choose = h("select", { "aria-label": "take this view along", onchange: event => { this.take(event.target.value, found); event.target.value = ""; } },
      h("option", { value: "" }, "Take along …"), h("option", { value: "folder" }, "folder (zip)"), h("option", { value: "coco" }, "COCO (zip)"), h("option", { value: "fiftyone" }, "FiftyOne (zip)"),
      this.state.overview.write && h("option", { value: "selection" }, "as a selection"), this.state.overview.write && h("option", { value: "tag" }, found.rows > TAGGED ? `tag the first ${TAGGED} …` : "tag what is shown …"));
    return choose;
  }

  async take(how, found) {
    try {
      if (how === "selection") {
        const made = await found.use(key => post("select", { view: key }));
        await this.state.renew();
        tellMade(made);
      } else if (how === "tag") await this.tag(found);
      else if (how) h("a", { href: address("export", { view: await found.held(), layout: how }), download: "" }).click();
    } catch (error) {
      failed(error);
      if (error.status === GONE) await this.load(this.words).catch(failed);
    }
  }

  async tag(found) {
    const word = prompt(`A tag for the first ${count(Math.min(found.rows, TAGGED))} patches of this view:`);
    if (!word) return;
    const { rows, urls } = await found.part(0, Math.min(found.rows, TAGGED));
    urls.forEach(URL.revokeObjectURL);
    await post("tag", { tag: word, patches: rows.map(row => row.patch_id) });
    await this.state.renew();
    say(`${rows.length} patches have the tag ${word}.`);
  }

  toggle() {
    if (matchMedia("(max-width: 760px)").matches) this.browse.classList.toggle("open");
    else localStorage.setItem("filters", this.browse.classList.toggle("closed") ? "closed" : "open");
    if (this.filters.host.offsetParent) this.filters.focus();
    else this.grid.host.focus();
  }

  open(index) {
    const row = this.grid.row(index);
    if (!row) return;
    if (this.table === "patches") {
      follow(this.view, index, row.patch_id);
      location.hash = link("patch", { id: row.patch_id });
    }
    else if (row.patches) location.hash = link("patches", { video: row.video_id, time_ms: `${row.time_ms},${row.time_ms}` });
    else location.hash = link("video", { id: row.video_id, at: row.time_ms });
  }

  moved(index) { this.view.at = index; }

  pressed(event) {
    if (event.key === "f") { this.toggle(); return true; }
    if (event.key === "Escape" && this.browse.classList.contains("open")) { this.toggle(); return true; }
    if (["ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft", "Enter"].includes(event.key) && document.activeElement === document.body) { this.grid.host.focus(); this.grid.pressed(event); return true; }
    return false;
  }

  close() { this.grid.close(); this.filters.close(); }
}

function tellMade(made) {
  const told = h("dialog", { "aria-labelledby": "made-title", onclose: () => told.remove() }, h("h2", { id: "made-title" }, "The selection is made"),
    h("p", {}, `${made.selection} has ${count(made.patches)} patches and ${count(made.images)} training images${made.left ? `; ${made.left} at the end make no whole image` : ""}.`),
    h("p", {}, "A training on it:"), h("p", { class: "id command" }, made.command),
    h("p", { class: "quiet" }, "The recipe tiny needs no GPU; with one put one_gpu in its place, or cluster, or the YAML file that the store was made with."),
    h("p", { class: "quiet" }, "selection.named is taken by choose, evaluate, transfer and export too."), h("form", { method: "dialog" }, h("button", { class: "main" }, "Close")));
  document.body.append(told);
  told.showModal();
}

const ordered = words => ["like", "sql", "selection", "tag"].find(name => words[name]);
const withoutTable = ({ table, ...words }) => words;

function picture(row) {
  if (!row) return h("div", { class: "cell" }, h("div", { class: "shot" }));
  const told = `difficulty ${number(row.difficulty)}`, where = `${clock(row.time_ms)} of ${short(row.video_id)}`;
  return h("div", { class: "cell", "aria-label": `${told}, ${where}` }, h("div", { class: "shot" }, h("img", { src: row.url, alt: "", draggable: false })), h("b", {}, number(row.difficulty)), h("span", {}, where));
}

function line(row) {
  if (!row) return h("div", { class: "cell line" });
  return h("div", { class: "cell line" }, h("b", { class: row.reason && row.reason !== "no region" ? "alarm" : "" }, row.reason ?? "kept"), h("span", { class: "where" }, h("span", {}, clock(row.time_ms)), h("span", { class: "id" }, short(row.video_id))),
    h("span", { class: "why" }, row.detail ?? `${count(row.patches)} patches`), h("span", { class: "far" }, `sharpness ${number(row.sharpness)}, brightness ${number(row.brightness)}, tissue ${number(row.tissue)}`));
}
