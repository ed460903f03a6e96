// A map of the embeddings: each dot a patch, near ones alike as far as two directions tell.
import { address, ask, clock, count, drawn, h, link, number, short } from "./dom.js";
import { follow } from "./trail.js";
import { view } from "./views.js";

const FAITHFUL = 0.8; // of the variance: what lies near is then near in most directions; our choice

export async function show(main, words) {
  const { rows, key } = await view(words);
  return new Page(main, words, rows ? await ask("map", { view: key }) : { points: [], share: 0, of: 0 });
}

class Page {
  constructor(main, words, data) {
    Object.assign(this, { words, data, at: -1, by: "difficulty" });
    const values = data.points.map(point => point[2]).filter(value => value !== null).sort((one, other) => one - other);
    this.low = values[Math.floor(values.length * 0.02)] ?? 0;
    this.high = values[Math.floor(values.length * 0.98)] ?? 1;
    this.canvas = h("canvas", { tabIndex: 0, role: "application", "aria-label": "map of the embeddings; arrows go to the nearest dot on that side, Enter opens it" });
    this.drawing = drawn(this.canvas, (pen, width, height, colour) => this.draw(pen, width, height, colour));
    this.canvas.addEventListener("pointermove", event => this.point(event));
    this.canvas.addEventListener("click", event => { this.point(event); this.open(); });
    this.canvas.addEventListener("keydown", event => this.step(event));
    this.shown = h("div", { role: "status" }, h("p", { class: "quiet" }, "Point at a dot."));
    const inks = h("select", { onchange: event => { this.by = event.target.value; this.drawing.again(); } }, h("option", { value: "difficulty" }, "difficulty: green easy, orange hard"), h("option", { value: "video" }, "video"));
    main.replaceChildren(h("div", { class: "map" }, h("div", {}, data.points.length ? this.canvas : h("p", { class: "missing" }, "There are too few patches for a map.")),
      h("aside", { "aria-label": "about the map" }, h("h1", {}, "Map"), h("p", { class: "quiet" }, `${data.points.length < data.of ? `${count(data.points.length)} of ${count(data.of)} patches by lot` : `All ${count(data.of)} patches`}, on the two directions in which their embeddings differ most; these hold ${(100 * data.share).toFixed(0)} % of the variance${data.share < FAITHFUL ? ", so near is not always alike" : ""}.`),
        h("label", {}, "colour by", inks), h("h3", {}, "The dot"), this.shown)));
  }

  places(width, height) {
    const size = 18;
    return this.data.points.map(([x, y]) => [size + (x + 1) / 2 * (width - 2 * size), size + (1 - y) / 2 * (height - 2 * size)]);
  }

  ink(point) {
    if (this.by === "video") return `hsl(${(point[3] * 137.5) % 360} 60% ${matchMedia("(prefers-color-scheme: dark)").matches ? 65 : 42}%)`;
    const share = Math.min(Math.max(0, ((point[2] ?? this.low) - this.low) / (this.high - this.low || 1)), 1);
    const [easy, hard] = matchMedia("(prefers-color-scheme: dark)").matches ? [[86, 199, 187], [255, 140, 80]] : [[20, 140, 132], [190, 60, 10]];
    return `rgb(${easy.map((value, at) => Math.round(value + (hard[at] - value) * share)).join(" ")})`;
  }

  draw(pen, width, height, colour) {
    this.placed = this.places(width, height);
    const size = this.data.points.length > 1500 ? 2.6 : 4.5;
    this.data.points.forEach((point, at) => {
      pen.fillStyle = this.ink(point);
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

  point(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    this.choose(nearest(this.placed, x, y, () => true));
  }

  choose(at) {
    if (at < 0 || at === this.at) return;
    this.at = at;
    const [, , difficulty, video, id] = this.data.points[at], time = Number(/@(\d+)/.exec(id)?.[1] ?? 0);
    this.shown.replaceChildren(h("img", { class: "whole", src: address("picture", { id }), alt: "" }), h("p", {}, h("b", {}, `Difficulty ${number(difficulty)}`), h("br"), h("small", {}, `${clock(time)} of ${short(this.data.videos[video])}`)),
      h("div", { class: "row" }, h("a", { class: "button", href: link("patch", { id }) }, "Open"), h("a", { class: "button", href: link("patches", { like: id }) }, "More like this")));
    this.drawing.again();
  }

  step(event) {
    const sides = { ArrowLeft: (x, y) => -x > Math.abs(y), ArrowRight: (x, y) => x > Math.abs(y), ArrowUp: (x, y) => -y > Math.abs(x), ArrowDown: (x, y) => y > Math.abs(x) };
    if (event.key === "Enter") { event.preventDefault(); this.open(); }
    if (!(event.key in sides)) return;
    event.preventDefault();
    if (this.at < 0) { this.choose(nearest(this.placed, this.canvas.clientWidth / 2, this.canvas.clientHeight / 2, () => true)); return; }
    const [x, y] = this.placed[this.at];
    this.choose(nearest(this.placed, x, y, (left, top, at) => at !== this.at && sides[event.key](left - x, top - y)));
  }

  open() {
    if (this.at < 0) return;
    follow(null);
    location.hash = link("patch", { id: this.data.points[this.at][4] });
  }

  pressed(event) {
    if (event.key.startsWith("Arrow") && document.activeElement === document.body) { this.canvas.focus(); this.step(event); return true; }
    if (event.key === "Escape") { location.hash = link("patches", this.words); return true; }
    return false;
  }

  close() { this.drawing.close(); }
}

function nearest(places, x, y, fits) {
  let found = -1, least = Infinity;
  places?.forEach(([left, top], at) => {
    const far = (left - x) ** 2 + (top - y) ** 2;
    if (far < least && fits(left, top, at)) [found, least] = [at, far];
  });
  return found;
}
