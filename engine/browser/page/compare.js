// Two selections side by side: what only one of them holds, what both do, and where they differ.
import { ask, count, failed, h, link, number, short } from "./dom.js";
import { follow } from "./trail.js";
import { view } from "./views.js";

const SHOWN = 48;

export async function show(main, words, state) {
  const all = state.overview.selections.map(one => one.selection_id); // the newest first
  const page = new Page(main, state, { older: words.older ?? all[1] ?? "", newer: words.newer ?? all[0] ?? "" });
  if (all.length > 1) await page.load();
  return page;
}

class Page {
  constructor(main, state, words) {
    Object.assign(this, { words, state, urls: [] });
    const { selections } = state.overview;
    const choice = which => {
      const made = h("select", { "aria-label": which === "older" ? "left selection" : "right selection", onchange: event => { location.hash = link("compare", { ...this.words, [which]: event.target.value }); } },
        selections.map(one => h("option", { value: one.selection_id }, `${one.method}, ${count(one.patches)} patches (${one.selection_id})`)));
      made.value = words[which];
      return h("div", { class: "grow" }, made);
    };
    this.body = h("div", {});
    const both = () => [h("div", { class: "row" }, choice("older"), h("span", { class: "quiet" }, "against"), choice("newer")), this.body];
    const none = () => h("p", { class: "missing" }, "There are fewer than two selections: run the job choose with two methods.");
    main.replaceChildren(h("div", { class: "page" }, h("h1", {}, "Two selections"), selections.length > 1 ? both() : none()));
  }

  async load() {
    const { older, newer } = this.words, found = await ask("difference", { older, newer });
    const sides = [["went", "only left", found.went], ["stayed", "in both", found.stayed], ["came", "only right", found.came]];
    const all = found.came + found.went + found.stayed;
    this.body.replaceChildren(h("p", { class: "quiet" }, all ? `${(100 * found.stayed / all).toFixed(1)} % of all that either holds is in both${found.moved === null ? "" : `; half of it stands ${number(found.moved)} ranks or more away in the other`}.` : ""),
      h("div", { class: "sides" }, sides.map(([change, title, many]) => this.side(change, title, many))),
      found.videos.length > 0 && h("section", { class: "card" }, h("h2", {}, "Where they differ"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "video"), h("th", { scope: "col", class: "n" }, "only left"), h("th", { scope: "col", class: "n" }, "only right"))),
        h("tbody", {}, found.videos.slice(0, 300).map(one => h("tr", {}, h("td", {}, h("a", { href: link("video", { id: one.video_id }) }, short(one.video_id))), h("td", { class: "n" }, count(one.went)), h("td", { class: "n" }, count(one.came)))))))));
  }

  side(change, title, many) {
    const words = { selection: this.words.newer, against: this.words.older, change }, thumbs = h("div", { class: "thumbs" });
    if (many) this.fill(thumbs, words).catch(failed);
    return h("section", { class: "card", "aria-label": title }, h("div", { class: "big" }, count(many)), h("p", { class: "quiet" }, title), thumbs, many > 0 && h("p", {}, h("a", { href: link("patches", words) }, "All of them")));
  }

  async fill(thumbs, words) {
    const side = await view(words), { rows, urls } = await side.part(0, Math.min(SHOWN, Math.max(1, side.rows)));
    this.urls.push(...urls);
    thumbs.replaceChildren(...rows.map((row, at) => h("a", {
      href: link("patch", { id: row.patch_id }), onclick: () => follow(side, at, row.patch_id),
    }, h("img", { src: urls[at], alt: `difficulty ${number(row.difficulty)}` }))));
  }

  pressed(event) {
    if (event.key === "Escape") { location.hash = link("patches", this.state.words); return true; }
    return false;
  }

  close() { this.urls.forEach(URL.revokeObjectURL); }
}
