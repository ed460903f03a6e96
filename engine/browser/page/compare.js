// Two selections side by side: what only one of them holds, what both do, and where they differ.
import { ask, count, failed, h, link, many, number, short } from "./dom.js";
import { follow } from "./trail.js";
import { view } from "./views.js";

const SHOWN = 48; // pictures of a side
const LISTED = 300; // videos

export async function show(main, words, state) {
  const all = state.overview.selections.map(one => one.selection_id); // the newest first
  const page = new Page(main, state, { older: words.older ?? all[1] ?? "", newer: words.newer ?? all[0] ?? "" });
  if (all.length > 1) await page.load().catch(error => page.refuse(error));
  return page;
}

class Page {
  constructor(main, state, words) {
    Object.assign(this, { words, state, urls: [] });
    const { selections } = state.overview;
    this.body = h("div", {});
    const both = () => h("div", { class: "row versus" },
      this.choice("older", "left selection"), h("span", { class: "quiet" }, "against"), this.choice("newer", "right selection"));
    const none = () => h("p", { class: "missing" }, "There are fewer than two selections: run the job choose with two methods.");
    main.replaceChildren(h("div", { class: "page" }, h("h1", {}, "Two selections"), selections.length > 1 ? [both(), this.body] : none()));
  }

  choice(which, label) {
    const told = one => `${one.method}, ${many(one.patches, "patch", "patches")} (${one.selection_id})`;
    const options = this.state.overview.selections.map(one => h("option", { value: one.selection_id }, told(one)));
    const chosen = event => { location.hash = link("compare", { ...this.words, [which]: event.target.value }); };
    const made = h("select", { "aria-label": label, onchange: chosen }, options);
    made.value = this.words[which];
    return h("div", { class: "grow" }, made);
  }

  async load() {
    const { older, newer } = this.words, found = await ask("difference", { older, newer });
    this.body.replaceChildren(h("p", { class: "quiet" }, older === newer ? "Both sides are the same selection." : shared(found)),
      h("div", { class: "sides" },
        this.side("went", "only left", found.went), this.side("stayed", "in both", found.stayed),
        this.side("came", "only right", found.came)),
      found.videos.length ? byVideo(found.videos) : "");
  }

  // The choices stay: another one may be meant.
  refuse(error) {
    if (!error.status) throw error;
    this.body.replaceChildren(h("p", { class: "missing", role: "alert" }, error.message));
  }

  side(change, title, held) {
    const words = { selection: this.words.newer, against: this.words.older, change }, thumbs = h("div", { class: "thumbs" });
    if (held) this.fill(thumbs, words).catch(failed);
    const all = held > 0 && h("p", {}, h("a", { href: link("patches", words) }, "All of them"));
    return h("section", { class: "card", "aria-label": title },
      h("div", { class: "big" }, count(held)), h("p", { class: "quiet" }, title), thumbs, all);
  }

  async fill(thumbs, words) {
    const side = await view(words), { rows, urls } = await side.part(0, Math.min(SHOWN, Math.max(1, side.rows)));
    this.urls.push(...urls);
    thumbs.replaceChildren(...rows.map((row, at) => h("a", {
      href: link("patch", { id: row.patch_id }), onclick: () => follow(side, at, row.patch_id),
    }, h("img", { src: urls[at], alt: `difficulty ${number(row.difficulty)}` }))));
  }

  get title() { return Object.values(this.words).every(Boolean) ? `${this.words.older} and ${this.words.newer}` : "compare"; }

  pressed(event) {
    if (event.key === "Escape") { location.hash = link("patches", this.state.words); return true; }
    return false;
  }

  close() { this.urls.forEach(URL.revokeObjectURL); }
}

function shared({ came, went, stayed, moved }) {
  const all = came + went + stayed;
  if (!all) return "";
  const far = moved === null ? "" : moved === 0 ? "; half of it or more stands at the same rank in the other"
    : `; half of it stands ${many(moved, "rank")} or more away in the other`;
  return `${(100 * stayed / all).toFixed(1)} % of all that either holds is in both${far}.`;
}

function byVideo(videos) {
  const names = [["video", ""], ["only left", "n"], ["only right", "n"]];
  const heads = names.map(([name, kind]) => h("th", { scope: "col", class: kind }, name));
  const row = one => h("tr", {}, h("td", {}, h("a", { href: link("video", { id: one.video_id }) }, short(one.video_id))),
    h("td", { class: "n" }, count(one.went)), h("td", { class: "n" }, count(one.came)));
  return h("section", { class: "card" }, h("h2", {}, "Where they differ"), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, heads)), h("tbody", {}, videos.slice(0, LISTED).map(row)))));
}
