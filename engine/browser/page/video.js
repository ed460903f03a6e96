// A video's timeline: the difficulty of its patches over time, what was rejected and why.
import { ask, clock, count, drawn, h, link, number, say } from "./dom.js";
import { tree } from "./patch.js";

const INKS = ["#b3541e", "#7a5aa6", "#3f6fb5", "#a8324a", "#5d7a2e", "#8a6d1d", "#3b7f86", "#6b6b6b"];

export async function show(main, { id = "", at = "" }, state) {
  return new Page(main, await ask("video", { id }), Number(at), state);
}

class Page {
  constructor(main, told, at, state) {
    Object.assign(this, { told, state, reasons: [...new Set(told.stretches.map(one => one.reason))] });
    this.at = Math.max(0, told.frames.findIndex(frame => frame.time_ms >= at));
    this.canvas = h("canvas", { class: "timeline", tabIndex: 0, role: "slider", "aria-label": "moment of the video", "aria-valuemin": 0, "aria-valuemax": Math.max(0, told.frames.length - 1) });
    this.drawing = drawn(this.canvas, (pen, width, height, colour) => this.draw(pen, width, height, colour));
    this.canvas.addEventListener("pointermove", event => this.point(event));
    this.canvas.addEventListener("click", event => { this.point(event); this.open(); });
    this.canvas.addEventListener("keydown", event => this.step(event));
    this.said = h("p", { role: "status" });
    const kept = told.frames.filter(frame => frame.patches).length;
    main.replaceChildren(h("div", { class: "page" },
      h("div", { class: "row" }, h("a", { class: "button", href: link("patches", { video: told.video }) }, "Its patches"), h("a", { class: "button", href: link("frames", { video: told.video }) }, "Its frames")),
      h("section", { class: "card" }, h("h1", { class: "id" }, told.video), h("p", { class: "quiet" }, `${count(told.frames.length)} moments looked at, ${count(kept)} gave patches`), told.frames.length ? [this.canvas, this.key(), this.said, h("button", { type: "button", onclick: () => this.open() }, "Open this moment")] : h("p", { class: "missing" }, "Nothing was sampled.")),
      h("section", { class: "card" }, h("h2", {}, "What was rejected"), told.stretches.length ? this.table() : h("p", { class: "quiet" }, "Nothing was.")),
      h("section", { class: "card tree" }, h("h2", {}, "How it was taken in"), tree(told.story))));
    this.tell();
  }

  ink(reason) { return INKS[this.reasons.indexOf(reason) % INKS.length]; }

  key() {
    const swatch = colour => { const made = h("i"); made.style.background = colour; return made; };
    return h("div", { class: "key" }, h("span", {}, swatch("var(--accent)"), "hardest patch of the moment"), h("span", {}, swatch("var(--quiet)"), "mean of its patches"), this.reasons.map(reason => h("span", {}, swatch(this.ink(reason)), reason)));
  }

  get ends() {
    const { frames } = this.told, last = frames.at(-1).time_ms;
    return [frames[0].time_ms, frames.length > 1 ? last + (last - frames[0].time_ms) / (frames.length - 1) : last + 1000];
  }

  draw(pen, width, height, colour) {
    const { frames, stretches, scale } = this.told, [start, end] = this.ends, foot = 26, tall = height - foot - 10;
    const x = ms => (ms - start) / (end - start) * width, highest = Math.max(scale[1] ?? 0, ...frames.map(frame => frame.max ?? 0)) || 1;
    const y = value => 6 + tall * (1 - value / highest);
    const step = (end - start) / frames.length; // the last stretch lasts as long as moments are apart
    for (const { from, to, reason } of stretches) {
      const [left, wide] = [x(from), Math.max(2, x(Math.max(to, from + (to === frames.at(-1).time_ms ? step : 0))) - x(from))];
      pen.fillStyle = this.ink(reason);
      pen.globalAlpha = 0.2;
      pen.fillRect(left, 0, wide, height - foot);
      pen.globalAlpha = 1;
      pen.fillRect(left, height - foot - 5, wide, 5);
    }
    for (const [what, ink, wide] of [["mean", "quiet", 1.5], ["max", "accent", 2]]) {
      pen.strokeStyle = pen.fillStyle = colour(ink);
      pen.lineWidth = wide;
      pen.beginPath();
      let isOn = false;
      for (const frame of frames) {
        if (frame[what] === null) { isOn = false; continue; }
        const [left, top] = [x(frame.time_ms), y(frame[what])];
        if (isOn) pen.lineTo(left, top); else pen.moveTo(left, top);
        if (frames.length < 400) pen.fillRect(left - 2, top - 2, 4, 4);
        isOn = true;
      }
      pen.stroke();
    }
    pen.fillStyle = colour("quiet");
    pen.font = "12px system-ui, sans-serif";
    const ticks = Math.max(2, Math.min(8, Math.floor(width / 110)));
    for (let tick = 0; tick <= ticks; tick++) {
      pen.textAlign = tick === 0 ? "left" : tick === ticks ? "right" : "center";
      pen.fillText(clock(start + (end - start) * tick / ticks), width * tick / ticks + (tick === 0 ? 4 : tick === ticks ? -4 : 0), height - 9);
    }
    pen.fillStyle = colour("ink");
    pen.fillRect(x(frames[this.at].time_ms) - 0.75, 0, 1.5, height - foot);
  }

  point(event) {
    const { left, width } = this.canvas.getBoundingClientRect(), [start, end] = this.ends, wanted = start + (event.clientX - left) / width * (end - start);
    const { frames } = this.told;
    let at = frames.findIndex(frame => frame.time_ms > wanted);
    at = at === -1 ? frames.length - 1 : Math.max(0, at - 1);
    if (at !== this.at) { this.at = at; this.tell(); }
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
    const told = frame.reason ? `${frame.reason}${frame.detail ? `: ${frame.detail}` : ""}` : `${count(frame.patches)} patches, the hardest ${number(frame.max)}, their mean ${number(frame.mean)}`;
    this.said.textContent = `${clock(frame.time_ms)}: ${told}`;
    this.canvas.setAttribute("aria-valuenow", this.at);
    this.canvas.setAttribute("aria-valuetext", this.said.textContent);
    this.drawing.again();
  }

  open() {
    const frame = this.told.frames[this.at];
    if (frame?.patches) location.hash = link("patches", { video: this.told.video, time_ms: `${frame.time_ms},${frame.time_ms}` });
    else if (frame) say(frame.reason ? `This moment was rejected (${frame.reason}): no patch of it is kept.` : "No patch of this moment is kept.");
  }

  table() {
    return h("div", { class: "scroll" }, h("table", { class: "stretches" }, h("thead", {}, h("tr", {}, ["why", "from", "to", "moments", "the first of them"].map(name => h("th", { scope: "col" }, name)))),
      h("tbody", {}, this.told.stretches.slice(0, 500).map(one => h("tr", {}, h("td", {}, one.reason), h("td", {}, clock(one.from)), h("td", {}, clock(one.to)), h("td", {}, count(one.frames)), h("td", {}, one.detail ?? ""))))),
      this.told.stretches.length > 500 && h("p", { class: "quiet" }, `and ${count(this.told.stretches.length - 500)} more`));
  }

  pressed(event) {
    if (event.key === "Escape") { location.hash = this.state.back.video; return true; }
    if (["ArrowLeft", "ArrowRight", "Enter"].includes(event.key) && document.activeElement === document.body && this.told.frames.length) { this.canvas.focus(); this.step(event); return true; }
    return false;
  }

  close() { this.drawing.close(); }
}

