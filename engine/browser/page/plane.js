// A map of the embeddings: each dot a patch, near ones alike as far as two directions tell.
import { address, ask, clock, count, drawn, h, isNowhere, link, many, number, short, swatch } from "./dom.js";
import { titled } from "./filters.js";
import { follow } from "./trail.js";
import { view } from "./views.js";

const FAITHFUL = 0.8; // of the variance: what lies near is then near in most directions; our choice
const REACH = 24; // px to the dot that is meant: as large as a finger is sure of; our choice
const NAMED = 12; // videos in the legend, those with the most dots
const MARGIN = 18; // px
const SIDES = {
  ArrowLeft: (x, y) => -x > Math.abs(y), ArrowRight: (x, y) => x > Math.abs(y),
  ArrowUp: (x, y) => -y > Math.abs(x), ArrowDown: (x, y) => y > Math.abs(x),
};

export async function show(main, words) {
  const { rows, key } = await view(words);
  return new Page(main, words, rows ? await ask("map", { view: key }) : { points: [], videos: [], share: 0, of: 0 });
}

class Page {
  constructor(main, words, data) {
    Object.assign(this, { words, data, at: -1, by: "difficulty" });
    const values = data.points.map(point => point[2]).filter(value => value !== null).sort((one, other) => one - other);
    this.low = values[Math.floor(values.length * 0.02)] ?? 0;
    this.high = values[Math.floor(values.length * 0.98)] ?? 1;
    this.canvas = h("canvas", {
      tabIndex: 0, role: "application",
      "aria-label": "map of the embeddings; arrows go to the nearest dot on that side, Enter opens it",
    });
    this.drawing = drawn(this.canvas, (pen, width, height, colour) => this.draw(pen, width, height, colour));
    this.canvas.addEventListener("pointermove", event => event.pointerType !== "touch" && this.choose(this.under(event)));
    this.canvas.addEventListener("click", event => this.click(event));
    this.canvas.addEventListener("keydown", event => this.step(event));
    this.shown = h("div", { role: "status" }, h("p", { class: "quiet" }, "Point at a dot, or tap it; a click, or a second tap, opens it."));
    this.legend = h("div", { class: "key" });
    this.explain();
    main.replaceChildren(h("div", { class: "map" },
      h("div", {}, data.points.length ? this.canvas : h("p", { class: "missing" }, "There are too few patches for a map.")),
      h("aside", { "aria-label": "about the map" }, h("h1", {}, "Map"), h("p", { class: "quiet" }, this.what()),
        h("label", {}, "colour by", this.inks()), this.legend, h("section", { class: "dot" }, h("h3", {}, "The dot"), this.shown))));
  }

  what() {
    const { points, of, share } = this.data;
    const all = many(of, "patch", "patches"), which = points.length < of ? `${count(points.length)} of ${all} by lot` : `All ${all}`;
    const held = `${(100 * share).toFixed(0)} % of the variance${share < FAITHFUL ? ", so near is not always alike" : ""}`;
    return `${which}, on the two directions in which their embeddings differ most; these hold ${held}.`;
  }

  inks() {
    const chosen = event => { this.by = event.target.value; this.explain(); this.drawing.again(); };
    return h("select", { onchange: chosen }, h("option", { value: "difficulty" }, "difficulty"), h("option", { value: "video" }, "video"));
  }

  // What the colours stand for.
  explain() {
    if (this.by === "difficulty") {
      const ends = [[this.low, "and easier"], [this.high, "and harder"]];
      this.legend.replaceChildren(...ends.map(([value, beyond]) => h("span", {}, swatch(this.heat(value)), `${number(value)} ${beyond}`)));
      return;
    }
    const dots = (this.data.videos ?? []).map((name, at) => [at, name, this.data.points.filter(point => point[3] === at).length]);
    const most = dots.sort((one, other) => other[2] - one[2]).slice(0, NAMED), rest = dots.length - most.length;
    const named = ([at, name, held]) =>
      h("span", {}, swatch(hue(at)), h("a", { href: link("video", { id: name }) }, short(name)), ` ${many(held, "dot")}`);
    this.legend.replaceChildren(...most.map(named), rest ? `and ${many(rest, "video")} more` : "");
  }

  places(width, height) {
    const across = width - 2 * MARGIN, down = height - 2 * MARGIN;
    return this.data.points.map(([x, y]) => [MARGIN + (x + 1) / 2 * across, MARGIN + (1 - y) / 2 * down]);
  }

  heat(difficulty) {
    const share = Math.min(Math.max(0, ((difficulty ?? this.low) - this.low) / (this.high - this.low || 1)), 1);
    const [easy, hard] = isDark() ? [[86, 199, 187], [255, 140, 80]] : [[20, 140, 132], [190, 60, 10]];
    return `rgb(${easy.map((value, at) => Math.round(value + (hard[at] - value) * share)).join(" ")})`;
  }

  draw(pen, width, height, colour) {
    this.placed = this.places(width, height);
    const size = this.data.points.length > 1500 ? 2.6 : 4.5;
    this.data.points.forEach((point, at) => {
      pen.fillStyle = this.by === "video" ? hue(point[3]) : this.heat(point[2]);
      pen.beginPath();
      pen.arc(...this.placed[at], size, 0, 7);
      pen.fill();
    });
    if (this.at < 0) return;
    pen.strokeStyle = colour("ink");
    pen.lineWidth = 2.5;
    pen.beginPath();
    pen.arc(...this.placed[this.at], size + 5, 0, 7);
    pen.stroke();
  }

  // The dot that is pointed at, -1 in the void.
  under(event) {
    const { left, top } = this.canvas.getBoundingClientRect(), [x, y] = [event.clientX - left, event.clientY - top];
    return nearest(this.placed, x, y, (dotX, dotY) => Math.hypot(dotX - x, dotY - y) <= REACH);
  }

  click(event) { // a mouse has chosen the dot by coming; a finger chooses first, so that what is told of the dot can be reached
    const at = this.under(event);
    if (at < 0) return;
    if (at === this.at) this.open();
    else this.choose(at);
  }

  choose(at) {
    if (at < 0 || at === this.at) return;
    this.at = at;
    const [, , difficulty, video, id] = this.data.points[at], time = Number(/@(\d+)/.exec(id)?.[1] ?? 0);
    const where = `${clock(time)} of ${short(this.data.videos[video])}`;
    this.shown.replaceChildren(h("img", { class: "whole", src: address("picture", { id }), alt: "" }),
      h("p", {}, h("b", {}, `Difficulty ${number(difficulty)}`), h("br"), h("small", {}, where)),
      h("div", { class: "row" }, h("a", { class: "button", href: link("patch", { id }), onclick: () => follow(null) }, "Open"),
        h("a", { class: "button", href: link("patches", { like: id }) }, "More like this")));
    this.drawing.again();
  }

  step(event) {
    if (event.key === "Enter") { event.preventDefault(); this.open(); }
    if (!(event.key in SIDES)) return;
    event.preventDefault();
    if (this.at < 0) { this.choose(nearest(this.placed, this.canvas.clientWidth / 2, this.canvas.clientHeight / 2, () => true)); return; }
    const [x, y] = this.placed[this.at];
    this.choose(nearest(this.placed, x, y, (left, top, at) => at !== this.at && SIDES[event.key](left - x, top - y)));
  }

  open() {
    if (this.at < 0) return;
    follow(null);
    location.hash = link("patch", { id: this.data.points[this.at][4] });
  }

  get title() { return titled("map", this.words); }

  pressed(event) {
    if (event.key.startsWith("Arrow") && isNowhere()) { this.canvas.focus(); this.step(event); return true; }
    if (event.key === "Escape") { location.hash = link("patches", this.words); return true; }
    return false;
  }

  close() { this.drawing.close(); }
}

const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
// The golden angle: the next one is always another. Every hue has a contrast of 3:1 with the page.
const hue = video => `hsl(${(video * 137.5) % 360} 60% ${isDark() ? 65 : 35}%)`;

function nearest(places, x, y, fits) {
  let found = -1, least = Infinity;
  places?.forEach(([left, top], at) => {
    const far = (left - x) ** 2 + (top - y) ** 2;
    if (far < least && fits(left, top, at)) [found, least] = [at, far];
  });
  return found;
}
