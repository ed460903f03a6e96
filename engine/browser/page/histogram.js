// How a number is spread, and a brush over it; the two fields below it do the same without a mouse.
import { ask, clock, drawn, failed, h, number } from "./dom.js";

export const TITLES = {
  difficulty: "difficulty", time_ms: "time", variance: "contrast (variance)", black: "black (hidden)", glare: "glare",
  foreign: "foreign (no mucosa)", area: "area", bytes: "bytes", sharpness: "sharpness", brightness: "brightness",
  tissue: "tissue", change: "change", patches: "patches",
};

const EDGE = 1.5; // px of a bar's upper edge, which tells it from the page: its own colour is there to tell the bar in it from

export class Histogram {
  constructor(name, changed) {
    Object.assign(this, { name, changed, data: { edges: [], all: [], some: [] } });
    this.canvas = h("canvas", { class: "chart", role: "img", "aria-label": `histogram of ${TITLES[name]}` });
    [this.least, this.most] = ["least", "most"].map(which => h("input", {
      type: "number", step: "any", placeholder: which, onchange: () => this.typed(),
      "aria-label": `${which} ${TITLES[name]}${name === "time_ms" ? " in seconds" : ""}`,
    }));
    this.told = h("small");
    this.turned = h("small", { class: "alarm", role: "alert", hidden: true }, "the least is above the most");
    this.host = h("details", { ontoggle: () => this.host.open && this.load() },
      h("summary", {}, TITLES[name]), this.canvas, this.told, h("div", { class: "two" }, this.least, this.most), this.turned);
    this.drawing = drawn(this.canvas, (pen, width, height, colour) => this.draw(pen, width, height, colour));
    this.canvas.addEventListener("pointerdown", event => this.begin(event));
    this.canvas.addEventListener("pointermove", event => this.drag(event));
    this.canvas.addEventListener("pointerup", () => this.end());
    this.canvas.addEventListener("pointercancel", () => this.cancel());
  }

  get unit() { return this.name === "time_ms" ? 1000 : 1; }

  set(words) {
    this.words = words;
    const [least = "", most = ""] = (words[this.name] ?? "").split(",");
    this.least.value = least === "" ? "" : Number(least) / this.unit;
    this.most.value = most === "" ? "" : Number(most) / this.unit;
    this.turnRound(false);
    if (words[this.name]) this.host.open = true;
    if (this.host.open) this.load();
    this.drawing.again();
  }

  async load() {
    const { words } = this;
    try {
      const data = await ask("histogram", { ...words, number: this.name });
      if (words !== this.words) return; // something else was asked for meanwhile
      this.data = data;
      this.told.textContent = this.span();
      this.drawing.again();
    } catch (error) { failed(error); }
  }

  span() {
    const { edges, most } = this.data, show = this.name === "time_ms" ? clock : number;
    if (!edges.length) return "no row has this number";
    const end = show(edges.at(-1)), isCut = most > edges.at(-1) && show(most) !== end;
    return `${show(edges[0])} to ${end}${isCut ? ", the last bar holds all above" : ""}`;
  }

  range() {
    const [least, most] = (this.words?.[this.name] ?? ",").split(",");
    return [least === "" ? -Infinity : Number(least), most === "" ? Infinity : Number(most)];
  }

  draw(pen, width, height, colour) {
    const { edges, all, some } = this.data, highest = Math.max(1, ...all), wide = width / Math.max(1, all.length);
    // Roots, so that a bar of one is seen beside one of a million.
    const tall = count => count && Math.max(EDGE, Math.sqrt(count / highest) * (height - 2));
    const bar = (at, from, high) => pen.fillRect(at * wide + 0.5, from, Math.max(1, wide - 1), high);
    for (const [counts, ink, edge] of [[all, "rest", "lostline"], [some, "accent", "accent"]]) {
      counts.forEach((count, at) => {
        pen.fillStyle = colour(ink);
        bar(at, height - tall(count), tall(count));
        pen.fillStyle = colour(edge);
        if (count) bar(at, height - tall(count), EDGE);
      });
    }
    const [least, most] = this.dragged ?? this.range();
    if (!edges.length || (least === -Infinity && most === Infinity)) return;
    const at = value => Math.min(Math.max(0, (value - edges[0]) / (edges.at(-1) - edges[0]) * width), width);
    pen.globalAlpha = 0.18;
    pen.fillStyle = pen.strokeStyle = colour("ink");
    pen.fillRect(at(least), 0, at(most) - at(least), height);
    pen.globalAlpha = 1;
    pen.strokeRect(at(least), 0.5, Math.max(1, at(most) - at(least)), height - 1);
  }

  value(event) {
    const { left, width } = this.canvas.getBoundingClientRect(), { edges } = this.data;
    return edges[0] + Math.min(Math.max(0, (event.clientX - left) / width), 1) * (edges.at(-1) - edges[0]);
  }

  begin(event) {
    if (!this.data.edges.length) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.start = this.value(event);
    this.dragged = [this.start, this.start];
  }

  drag(event) {
    if (!this.dragged) return;
    const now = this.value(event);
    this.dragged = [Math.min(this.start, now), Math.max(this.start, now)];
    this.drawing.again();
  }

  cancel() {
    this.dragged = undefined;
    this.drawing.again();
  }

  end() {
    if (!this.dragged) return;
    const [least, most] = this.dragged, { edges } = this.data;
    this.dragged = undefined;
    if (most - least < (edges.at(-1) - edges[0]) / 200) return this.changed(this.name, ""); // a click takes the brush away
    this.changed(this.name, `${round(least)},${most >= edges.at(-1) ? "" : round(most)}`);
  }

  typed() {
    const [least, most] = [this.least, this.most].map(field => field.value === "" ? "" : Number(field.value) * this.unit);
    const isTurned = least !== "" && most !== "" && least > most; // as while both are about to be changed
    this.turnRound(isTurned);
    if (!isTurned) this.changed(this.name, least === "" && most === "" ? "" : `${least},${most}`);
  }

  turnRound(isTurned) {
    this.turned.hidden = !isTurned;
    for (const field of [this.least, this.most]) field.setAttribute("aria-invalid", isTurned);
  }

  close() { this.drawing.close(); }
}

const round = value => Number(value.toPrecision(5));
