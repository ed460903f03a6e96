// What the rows are told apart by: choices, histograms to brush, and an order. Every change is a new address.
import { count, h, link, short } from "./dom.js";
import { Histogram, TITLES } from "./histogram.js";

export class Filters {
  constructor(table, overview, words, go) {
    Object.assign(this, { table, overview, go, words });
    this.charts = overview.numbers[table].filter(name => !(table === "patches" && ["area", "bytes"].includes(name))).map(name => new Histogram(name, (what, range) => this.change({ [what]: range })));
    this.charts[0].host.open = true;
    const fields = table === "patches" ? [this.video(), this.choice("selection", "selection", this.selections()), this.cluster(), this.choice("tag", "tag", Object.entries(overview.tags).map(([name, many]) => [name, `${name} (${count(many)})`]))] : [this.choice("reason", "verdict", this.reasons()), this.video()];
    this.host = h("aside", { class: "filters", "aria-label": "Filters", id: "filters" },
      h("div", { class: "row" }, h("h2", { class: "grow" }, "Filters"), h("button", { type: "button", class: "only-phone", onclick: () => this.done?.() }, "Done")),
      fields.filter(Boolean), this.charts.map(chart => chart.host), table === "frames" && this.refused(), h("button", { type: "button", onclick: () => go({}) }, "Clear all"));
    this.set(words);
  }

  set(words) {
    this.words = words;
    for (const field of this.host.querySelectorAll("[data-word]")) field.value = words[field.dataset.word] ?? "";
    for (const chart of this.charts) chart.set(words);
  }

  change(words) {
    const next = { ...this.words, ...words };
    for (const name of Object.keys(words)) if (words[name] === "") delete next[name];
    this.go(next);
  }

  choice(word, title, options) {
    if (!options.length) return null;
    return h("label", {}, title, h("select", { "data-word": word, onchange: event => this.change({ [word]: event.target.value, ...(word === "selection" ? { against: "", change: "" } : {}) }) },
      h("option", { value: "" }, "any"), options.map(([value, text]) => h("option", { value }, text))));
  }

  selections() {
    return this.overview.selections.map(one => [one.selection_id, `${one.method}, ${count(one.patches)} patches (${one.selection_id})`]);
  }

  reasons() {
    return this.overview.reasons.map(one => [one.reason ?? "kept", `${one.reason ?? "kept"} (${count(one.frames)})`]);
  }

  cluster() {
    const options = Object.entries(this.overview.clusters).flatMap(([name, sizes]) => sizes.map((size, at) => [`${name}/${at}`, `${name} ${at} (${count(size)})`]));
    return options.length > 3000 ? h("label", {}, "cluster, as name/number", h("input", { "data-word": "cluster", onchange: event => this.change({ cluster: event.target.value.trim() }) })) : this.choice("cluster", "cluster", options);
  }

  video() {
    const names = h("datalist", { id: "videos" }, this.overview.videos.map(([name, many]) => h("option", { value: name }, `${count(many)} patches`)));
    return h("label", {}, "video, or the beginning of its id", h("input", { "data-word": "video", list: "videos", placeholder: this.overview.videos.length ? `e.g. ${short(this.overview.videos[0][0])}` : "", autocomplete: "off", onchange: event => this.change({ video: event.target.value.trim().replace("…", "") }) }), names);
  }

  refused() { // videos of which nothing was looked at have no frames to be listed
    const { refused } = this.overview;
    return refused.length > 0 && h("details", { class: "refused" }, h("summary", {}, `refused videos (${count(refused.length)})`), refused.map(one => h("p", {}, h("a", { class: "id", href: link("video", { id: one.video_id }) }, short(one.video_id)), ` ${one.reason}${one.detail ? `: ${one.detail}` : ""}`)));
  }

  focus() { this.host.querySelector("input, select, summary")?.focus(); }
  close() { for (const chart of this.charts) chart.close(); }
}

export function chips(words, remove) {
  const told = Object.entries(words).filter(([name]) => !["sort", "down", "against"].includes(name)).map(([name, value]) => {
    const shown = name === "time_ms" ? seconds(value) : value;
    const compared = name === "change" ? `${value} from ${words.against}` : `${TITLES[name] ?? name} ${name === "sql" ? "question" : shown.replace(/^(.{34}).+$/, "$1…")}`;
    return h("button", { type: "button", class: "chip", title: `remove: ${name} ${shown}`, "aria-label": `remove the filter ${name} ${shown}`, onclick: () => remove(name) }, compared, " ✕");
  });
  return told;
}

function seconds(range) {
  const [least = "", most = ""] = range.split(",").map(ms => ms === "" ? "" : `${Number((Number(ms) / 1000).toFixed(3))} s`);
  return least === most ? least : least === "" ? `to ${most}` : most === "" ? `from ${least}` : `${least} to ${most}`;
}
