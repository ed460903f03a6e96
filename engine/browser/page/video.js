// A video's timeline: the difficulty of its patches over time, what gave no region and why.
import { ask, clock, count, drawn, h, isNowhere, isRejected, link, many, number, say, short, swatch, verdict } from "./dom.js";
import { tree } from "./tree.js";

const INKS = 8; // colours of reasons: --why-0 and so on
const CURVES = [["mean", "quiet", 1.5], ["max", "accent", 2]]; // what is drawn, its colour, how thick in px
const FOOT = 26, HEAD = 8, SIDE = 6; // px below the curves, above them, and beside them
const DOTTED = 400; // moments up to which each is a dot
const LISTED = 500; // stretches
const SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200]; // between two marks

export async function show(main, { id = "", at = "" }, state) {
  return new Page(main, await ask("video", { id }), Number(at), state);
}

class Page {
  constructor(main, told, at, state) {
    Object.assign(this, { told, state, reasons: [...new Set(told.stretches.map(one => one.reason))], pointed: -1 });
    this.at = Math.max(0, told.frames.findIndex(frame => frame.time_ms >= at));
    this.canvas = h("canvas", {
      class: "timeline", tabIndex: 0, role: "slider", "aria-label": "moment of the video",
      "aria-valuemin": 0, "aria-valuemax": Math.max(0, told.frames.length - 1),
    });
    this.drawing = drawn(this.canvas, (pen, width, height, colour) => this.draw(pen, width, height, colour));
    this.canvas.addEventListener("pointermove", event => event.pointerType !== "touch" && this.choose(this.under(event)));
    this.canvas.addEventListener("click", event => this.click(event));
    this.canvas.addEventListener("keydown", event => this.step(event));
    this.said = h("p", { role: "status" });
    const rejected = told.stretches.length ? this.table() : h("p", { class: "quiet" }, "Nothing: every moment gave some.");
    main.replaceChildren(h("div", { class: "page" }, this.links(), this.timeline(),
      h("section", { class: "card" }, h("h2", {}, "What gave no region"), rejected),
      h("section", { class: "card tree" }, h("h2", {}, "How it was taken in"), tree(told.story))));
    this.tell();
  }

  links() {
    const { video } = this.told;
    return h("div", { class: "row" }, h("a", { class: "button", href: this.state.back.video }, "← Back"),
      h("a", { class: "button", href: link("patches", { video }) }, "Its patches"),
      h("a", { class: "button", href: link("frames", { video }) }, "Its frames"));
  }

  timeline() {
    const { video, frames } = this.told, kept = frames.filter(frame => frame.patches).length;
    const opens = h("button", { type: "button", onclick: () => this.open() }, "Open this moment");
    return h("section", { class: "card" }, h("h1", { class: "id" }, video),
      h("p", { class: "quiet" }, `${many(frames.length, "moment")} looked at, ${count(kept)} gave patches`),
      frames.length ? [this.canvas, this.key(), this.said, opens] : h("p", { class: "missing" }, "Nothing was sampled."));
  }

  ink(reason) { return `why-${this.reasons.indexOf(reason) % INKS}`; }

  key() {
    return h("div", { class: "key" }, h("span", {}, swatch("var(--accent)"), "difficulty of the hardest patch of a moment"),
      h("span", {}, swatch("var(--quiet)"), "mean of its patches"),
      this.reasons.map(reason => h("span", {}, swatch(`var(--${this.ink(reason)})`), verdict(reason))));
  }

  draw(pen, width, height, colour) {
    const { frames, until, scale } = this.told, start = frames[0].time_ms, floor = height - FOOT;
    const highest = Math.max(scale[1] ?? 0, ...frames.map(frame => frame.max ?? 0)) || 1;
    const x = ms => SIDE + (ms - start) / (until - start) * (width - 2 * SIDE), y = value => HEAD + (floor - HEAD) * (1 - value / highest);
    pen.font = "12px system-ui, sans-serif";
    this.drawStretches(pen, x, floor, colour);
    this.drawScale(pen, { x, y, width, height, highest, colour });
    pen.fillStyle = colour("ink");
    pen.fillRect(x(frames[this.at].time_ms) - 0.75, 0, 1.5, floor);
    for (const [what, ink, wide] of CURVES) this.drawCurve(pen, what, { x, y, ink: colour(ink), wide }); // above the line: it hides no dot
  }

  drawStretches(pen, x, floor, colour) {
    for (const { from, to, reason } of this.told.stretches) {
      const [left, wide] = [x(from), Math.max(2, x(to) - x(from))];
      pen.fillStyle = colour(this.ink(reason));
      pen.globalAlpha = 0.2;
      pen.fillRect(left, 0, wide, floor);
      pen.globalAlpha = 1;
      pen.fillRect(left, floor - 5, wide, 5);
    }
  }

  // Round difficulties on the left, round times below.
  drawScale(pen, { x, y, width, height, highest, colour }) {
    const { frames, until } = this.told, start = frames[0].time_ms;
    const step = rounded(highest / 5);
    pen.textAlign = "left";
    for (let value = step; value <= highest; value += step) {
      pen.fillStyle = colour("rest");
      pen.fillRect(0, y(value), width, 1);
      pen.fillStyle = colour("quiet");
      pen.fillText(number(value), 2 * SIDE, y(value) + 13); // beside the line of the first moment
    }
    pen.fillStyle = colour("quiet");
    const most = Math.max(2, Math.min(8, Math.floor(width / 64)));
    const apart = 1000 * (SECONDS.find(one => (until - start) / (1000 * one) <= most) ?? SECONDS.at(-1));
    for (let time = Math.ceil(start / apart) * apart; time <= until; time += apart) {
      pen.textAlign = x(time) < 30 ? "left" : x(time) > width - 30 ? "right" : "center";
      pen.fillText(clock(time), Math.min(Math.max(4, x(time)), width - 4), height - 9);
      pen.fillRect(x(time), height - FOOT, 1, 5);
    }
  }

  drawCurve(pen, what, { x, y, ink, wide }) {
    const { frames } = this.told;
    pen.strokeStyle = pen.fillStyle = ink;
    pen.lineWidth = wide;
    pen.beginPath();
    let isOn = false;
    for (const frame of frames) {
      if (frame[what] === null) { isOn = false; continue; }
      const [left, top] = [x(frame.time_ms), y(frame[what])];
      if (isOn) pen.lineTo(left, top); else pen.moveTo(left, top);
      if (frames.length < DOTTED) pen.fillRect(left - 2, top - 2, 4, 4);
      isOn = true;
    }
    pen.stroke();
  }

  // The moment that is pointed at.
  under(event) {
    const { left, width } = this.canvas.getBoundingClientRect(), { frames, until } = this.told, start = frames[0].time_ms;
    const wanted = start + (event.clientX - left - SIDE) / (width - 2 * SIDE) * (until - start);
    const after = frames.findIndex(frame => frame.time_ms > wanted);
    return after === -1 ? frames.length - 1 : Math.max(0, after - 1);
  }

  click(event) { // a mouse has chosen the moment by coming; a finger chooses first, and sees what it is
    const at = this.under(event);
    if (at === this.pointed) this.open();
    else this.choose(at);
  }

  choose(at) {
    this.pointed = at;
    if (at === this.at) return;
    this.at = at;
    this.tell();
  }

  step(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity };
    if (event.key === "Enter") { event.preventDefault(); this.open(); }
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.at = Math.min(Math.max(0, this.at + steps[event.key]), this.told.frames.length - 1);
    this.tell();
  }

  tell() {
    const frame = this.told.frames[this.at];
    if (!frame) return;
    const rejected = `${verdict(frame.reason)}${frame.detail ? `: ${frame.detail}` : ""}`;
    const gave = `${many(frame.patches, "patch", "patches")}, the hardest ${number(frame.max)}, their mean ${number(frame.mean)}`;
    this.said.textContent = `${clock(frame.time_ms)}: ${frame.reason ? rejected : gave}`;
    this.canvas.setAttribute("aria-valuenow", this.at);
    this.canvas.setAttribute("aria-valuetext", this.said.textContent);
    this.drawing.again();
  }

  open() {
    const frame = this.told.frames[this.at];
    if (frame?.patches) location.hash = link("patches", { video: this.told.video, time_ms: `${frame.time_ms},${frame.time_ms}` });
    else if (frame?.reason) {
      say(`This moment was ${isRejected(frame.reason) ? `rejected (${frame.reason})` : verdict(frame.reason)}: it gave no patch.`);
    }
    else if (frame) say("No patch of this moment is kept.");
  }

  table() {
    const { stretches } = this.told, heads = ["why", "from", "to", "moments", "the first of them"];
    const cells = one => [verdict(one.reason), clock(one.from), clock(one.to), count(one.frames), one.detail ?? ""];
    const row = one => h("tr", {}, cells(one).map(cell => h("td", {}, cell)));
    return h("div", { class: "scroll" }, h("table", { class: "stretches" },
      h("thead", {}, h("tr", {}, heads.map(name => h("th", { scope: "col" }, name)))),
      h("tbody", {}, stretches.slice(0, LISTED).map(row))),
      stretches.length > LISTED && h("p", { class: "quiet" }, `and ${count(stretches.length - LISTED)} more`));
  }

  get title() { return `video ${short(this.told.video)}`; }

  pressed(event) {
    if (event.key === "Escape") { location.hash = this.state.back.video; return true; }
    const isStep = ["ArrowLeft", "ArrowRight", "Enter"].includes(event.key) && this.told.frames.length > 0;
    if (!isStep || !isNowhere()) return false;
    this.canvas.focus();
    this.step(event);
    return true;
  }

  close() { this.drawing.close(); }
}

// The next of 1, 2 and 5 times a power of ten.
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find(one => one * power >= value * (1 - 1e-9));
}
