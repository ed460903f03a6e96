// What the rows are told apart by: choices, histograms to brush, and an order. Every change is a new address.
import { count, h, link, many, short, verdict } from "./dom.js";
import { Histogram, TITLES } from "./histogram.js";

const UNCHARTED = ["area", "bytes"]; // of patches: they are there to sort by
const KINDS = { patches: "regions of frames", frames: "whole frames" }; // by their names in the address
const LISTED = 3000; // clusters that a list to choose from may have
const ALONE = { selection: ["against", "change"], change: ["selection", "against"] }; // what means nothing without it

export class Filters {
  constructor(table, overview, go, done) {
    Object.assign(this, { table, go });
    const numbers = overview.numbers[table].filter(name => table !== "patches" || !UNCHARTED.includes(name));
    this.charts = numbers.map(name => new Histogram(name, (what, range) => this.change({ [what]: range })));
    this.charts[0].host.open = true;
    this.head = h("div", { class: "row" }, h("h2", { class: "grow" }, "Filters"),
      h("button", { type: "button", class: "only-phone", onclick: done }, "Done"));
    this.host = h("aside", { class: "filters", "aria-label": "Filters", id: "filters" });
    this.offer(overview);
  }

  // Offer what there is to choose from, which is only drawn anew where that has changed.
  offer(overview) {
    if (overview === this.overview) return;
    this.overview = overview;
    const fields = this.table === "patches"
      ? [this.video(), this.choice("kind", this.kinds()), this.choice("selection", this.selections()), this.cluster(),
        this.choice("tag", this.tags())]
      : [this.choice("reason", this.reasons(), "verdict"), this.video()];
    const clear = h("button", { type: "button", onclick: () => this.go({}) }, "Clear all");
    const parts = [this.head, ...fields, ...this.charts.map(chart => chart.host), this.table === "frames" && this.refused(), clear];
    this.host.replaceChildren(...parts.filter(Boolean));
    if (this.words) this.set(this.words);
  }

  set(words) {
    this.words = words;
    for (const field of this.host.querySelectorAll("[data-word]")) field.value = words[field.dataset.word] ?? "";
    for (const chart of this.charts) chart.set(words);
  }

  change(words) {
    const next = { ...this.words, ...words };
    for (const name of Object.keys(words)) {
      if (words[name] === "") delete next[name];
      for (const other of ALONE[name] ?? []) if (!(other in words)) delete next[other];
    }
    this.go(next);
  }

  choice(word, options, title = word) {
    if (!options.length) return null;
    const chosen = event => this.change({ [word]: event.target.value });
    return h("label", {}, title, h("select", { "data-word": word, onchange: chosen }, h("option", { value: "" }, "any"), options));
  }

  selections() {
    const told = one => `${one.method}, ${many(one.patches, "patch", "patches")} (${one.selection_id})`;
    return this.overview.selections.map(one => option(one.selection_id, told(one)));
  }

  kinds() {
    const { kinds } = this.overview, isMixed = Object.values(kinds).every(Boolean);
    return isMixed ? Object.entries(kinds).map(([name, held]) => option(name, `${KINDS[name]} (${count(held)})`)) : [];
  }

  tags() { return Object.entries(this.overview.tags).map(([name, held]) => option(name, `${name} (${count(held)})`)); }

  reasons() {
    return this.overview.reasons.map(({ reason, frames }) => option(reason ?? "kept", `${verdict(reason)} (${count(frames)})`));
  }

  cluster() {
    const { clusters } = this.overview, all = Object.values(clusters).flat().length;
    if (all > LISTED) {
      const typed = event => this.change({ cluster: event.target.value.trim() });
      return h("label", {}, "cluster, as name/number", h("input", { "data-word": "cluster", onchange: typed }));
    }
    return this.choice("cluster", Object.entries(clusters).filter(([, sizes]) => sizes.length).map(([name, sizes]) =>
      h("optgroup", { label: `${name}: ${meaning(name)}` },
        sizes.map((size, at) => option(`${name}/${at}`, `${name} ${at} (${many(size, "patch", "patches")})`)))));
  }

  video() {
    const { videos } = this.overview;
    const names = h("datalist", { id: "videos" }, videos.map(([name, held]) => option(name, many(held, "patch", "patches"))));
    const typed = event => this.change({ video: event.target.value.trim().replace("…", "") });
    return h("label", {}, "video, or the beginning of its id", h("input", {
      "data-word": "video", list: "videos", autocomplete: "off", onchange: typed,
      placeholder: videos.length ? `e.g. ${short(videos[0][0])}` : "",
    }), names);
  }

  refused() { // videos of which nothing was looked at have no frames to be listed
    const { refused } = this.overview;
    if (!refused.length) return null;
    return h("details", { class: "refused" }, h("summary", {}, `refused videos (${count(refused.length)})`), refused.map(one => h("p", {},
      h("a", { class: "id", href: link("video", { id: one.video_id }) }, short(one.video_id)),
      ` ${one.reason}${one.detail ? `: ${one.detail}` : ""}`)));
  }

  focus() { this.host.querySelector("input, select, summary")?.focus(); }
  close() { for (const chart of this.charts) chart.close(); }
}

const option = (value, text) => h("option", { value }, text);

// What a clustering is there for, by its name, which tells whether it is of `choose`'s measures or of its methods.
const meaning = name => name === "kinds" ? "what choose measures a selection's coverage by" : "what methods that compare patches chose by";

// The filters that are set: of each its name, what it asks for, and both in few words.
function told(words) {
  const set = Object.entries(words).filter(([name]) => !["sort", "down", "against", "table"].includes(name));
  return set.map(([name, value]) => {
    const shown = name in TITLES ? span(name, value) : value, cut = name === "sql" ? "question" : shown.replace(/^(.{34}).+$/, "$1…");
    return { name, shown, brief: name === "change" ? `${value} from ${words.against}` : `${TITLES[name] ?? name} ${cut}` };
  });
}

// These, each as a button that takes it away.
export const chips = (words, change) => told(words).map(({ name, shown, brief }) => h("button", {
  type: "button", class: "chip", title: `remove: ${name} ${shown}`, "aria-label": `remove the filter ${name} ${shown}`,
  onclick: () => change({ [name]: "" }),
}, brief, " ✕"));

// What a page of rows is called, by its filters.
export const titled = (page, words) => [page, told(words).map(({ brief }) => brief).join(", ")].filter(Boolean).join(": ");

// A range of numbers in words; times are told in seconds.
function span(name, range) {
  const inSeconds = ms => `${Number((Number(ms) / 1000).toFixed(3))} s`;
  const [least = "", most = ""] = range.split(",").map(end => end === "" || name !== "time_ms" ? end : inSeconds(end));
  return least === most ? least : least === "" ? `to ${most}` : most === "" ? `from ${least}` : `${least} to ${most}`;
}
