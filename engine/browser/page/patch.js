// One patch: its picture, the frame it is from with its box, the seconds around it, what the scorer rebuilds, and why it is there.
import { address, ask, bytes, clock, failed, h, link, number, post, short } from "./dom.js";
import { further, leads } from "./trail.js";

export async function show(main, { id = "" }, state) {
  const told = await ask("patch", { id });
  const page = new Page(main, told, state);
  page.draw();
  return page;
}

class Page {
  constructor(main, told, state) { Object.assign(this, { main, told, state, urls: [] }); }

  draw() {
    const { patch, tags, story } = this.told;
    this.frame = h("figure", {}, h("p", { class: "missing" }, "Reading the frame from its video …"));
    this.clip = h("figure", {}, h("button", { type: "button", onclick: () => this.play() }, "Play the seconds around it"));
    this.rebuilt = h("figure", {}, h("p", { class: "missing" }, "Asking the scorer …"));
    this.main.replaceChildren(h("div", { class: "page" },
      h("div", { class: "row" }, h("a", { class: "button", href: this.state.back.patch }, "← Back"), this.step(-1, "Before"), this.step(1, "After"),
        h("a", { class: "button", href: link("patches", { like: patch.patch_id }) }, "More like this"), h("a", { class: "button", href: link("video", { id: patch.video_id, at: patch.time_ms }) }, "Its video")),
      h("div", { class: "patch" },
        h("div", {}, h("section", { class: "card", "aria-label": "frame" }, h("h2", {}, "In its frame"), this.frame, this.clip), h("section", { class: "card", "aria-label": "rebuilt" }, h("h2", {}, "As the scorer sees it"), this.rebuilt)),
        h("div", {}, h("section", { class: "card" }, h("h1", {}, `Difficulty ${number(patch.difficulty)}`), h("p", { class: "quiet" }, `${clock(patch.time_ms)} of `, h("a", { href: link("video", { id: patch.video_id, at: patch.time_ms }) }, short(patch.video_id))),
          h("div", { class: "stage own" }, h("img", { class: "whole", src: address("picture", { id: patch.patch_id }), alt: `the patch, ${patch.width} by ${patch.height} pixels` }), this.mask({ top: 0, left: 0, width: "100%", height: "100%" })),
          this.masked(), h("p", { class: "id quiet" }, patch.patch_id), this.tags(tags)),
          h("section", { class: "card tree", "aria-label": "why it is there" }, h("h2", {}, "Why it is there"), tree(story))))));
    this.load();
  }

  step(by, name) {
    const isThere = leads(by, this.told.patch.patch_id);
    return h("button", { type: "button", disabled: !isThere, onclick: () => this.go(by) }, by < 0 ? `‹ ${name}` : `${name} ›`);
  }

  // The region's mask over a picture, where it lies in it; nothing of a patch without one.
  mask(place) {
    const { patch, mask } = this.told;
    if (mask === null) return null;
    const laid = h("img", { class: "mask", src: address("mask", { id: patch.patch_id }), hidden: isBare(), alt: `the mask of the region, ${Math.round(100 * mask)} % of the box` });
    Object.assign(laid.style, place);
    return laid;
  }

  masked() {
    if (this.told.mask === null) return h("p", { class: "quiet" }, "No mask is kept of it: its proposer cuts no regions, or it was taken in before masks were kept.");
    this.shade = h("button", { type: "button", class: "shade", "aria-pressed": String(!isBare()), onclick: () => this.turn() }, "Mask ", h("kbd", {}, "m"));
    return h("p", { class: "row" }, this.shade, h("span", { class: "quiet" }, `${Math.round(100 * this.told.mask)} % of the box`));
  }

  turn() {
    localStorage.setItem("mask", isBare() ? "shown" : "hidden");
    for (const laid of this.main.querySelectorAll("img.mask")) laid.hidden = isBare();
    this.shade.setAttribute("aria-pressed", String(!isBare()));
  }

  async go(by) {
    try {
      const id = await further(by, this.told.patch.patch_id);
      if (id !== null) location.replace(link("patch", { id }));
    } catch (error) { failed(error); }
  }

  tags(tags) {
    const one = word => h("span", { class: "row" }, h("a", { class: "button", href: link("patches", { tag: word }) }, word), this.state.overview.write && h("button", { type: "button", "aria-label": `remove the tag ${word}`, onclick: () => this.tag(word, true) }, "✕"));
    const field = h("input", { "aria-label": "a new tag", placeholder: "a new tag", maxLength: 40, class: "grow" });
    const form = h("form", { class: "row", onsubmit: event => { event.preventDefault(); if (field.value.trim()) this.tag(field.value.trim(), false); } }, field, h("button", {}, "Tag"));
    return [h("div", { class: "row" }, tags.map(one)), this.state.overview.write && form];
  }

  async tag(word, remove) {
    try {
      await post("tag", { tag: word, patches: [this.told.patch.patch_id], remove });
      await this.state.renew();
      this.told = await ask("patch", { id: this.told.patch.patch_id });
      this.close();
      this.draw();
    } catch (error) { failed(error); }
  }

  async load() {
    const { patch, frame } = this.told;
    await Promise.all([
      this.picture(this.frame, "frame", frame.frame_id, image => [this.stage(image), h("figcaption", {}, "Only what the store would keep: cut to the endoscope's picture, burnt-in text hidden. Boxes are those of its patches.")]),
      this.picture(this.rebuilt, "rebuilt", patch.patch_id, image => [h("div", { class: "three" }, SQUARES.map(([shown, told], at) => square(image.src, at, shown, told))), h("figcaption", {}, "Under the first of the masks that the score is a mean of.")]),
    ]);
  }

  async picture(place, what, id, shown) {
    try {
      const url = this.url(await bytes(what, { id }), "image/jpeg");
      place.replaceChildren(...shown(h("img", { src: url, alt: what === "frame" ? "the frame, with the boxes of its patches" : "" })));
    } catch (error) { place.replaceChildren(h("p", { class: "missing" }, error.message)); }
  }

  stage(shown) {
    const { patch, frame, beside } = this.told, [top, left, bottom, right] = frame.content;
    const share = (value, of) => `${100 * value / of}%`;
    let laid = null; // below the boxes, which are to be clicked
    const boxes = beside.map(one => {
      const [y0, x0, y1, x1] = one.box, isThis = one.patch_id === patch.patch_id;
      const box = h("button", { type: "button", class: isThis ? "box this" : "box", tabIndex: isThis ? -1 : 0, "aria-label": isThis ? "this patch" : `another patch, difficulty ${number(one.difficulty)}`, onclick: () => { if (!isThis) location.hash = link("patch", { id: one.patch_id }); } });
      Object.assign(box.style, { top: share(y0 - top, bottom - top), left: share(x0 - left, right - left), height: share(y1 - y0, bottom - top), width: share(x1 - x0, right - left) });
      box.area = (y1 - y0) * (x1 - x0) * (isThis ? 0 : 1); // the smaller above the larger, and this one above all
      if (isThis) laid = this.mask({ top: box.style.top, left: box.style.left, height: box.style.height, width: box.style.width });
      return box;
    });
    boxes.sort((one, other) => other.area - one.area);
    return h("div", { class: "stage" }, shown, shown.tagName === "IMG" ? [laid, boxes] : boxes.filter(box => box.classList.contains("this")));
  }

  async play() {
    this.clip.replaceChildren(h("p", { class: "missing" }, "Cutting the seconds around it …"));
    try {
      const url = this.url(await bytes("clip", { id: this.told.frame.frame_id }), "video/mp4");
      const video = h("video", { src: url, controls: true, autoplay: true, muted: true, loop: true, "aria-label": "two seconds before and after" });
      video.setAttribute("playsinline", "");
      this.clip.replaceChildren(this.stage(video), h("figcaption", {}, "Two seconds before and after, cut and blacked out as the frame is; moments that are dark, glaring or outside the body stay black."));
    } catch (error) { this.clip.replaceChildren(h("p", { class: "missing" }, error.message)); }
  }

  url(content, type) {
    const made = URL.createObjectURL(new Blob([content], { type }));
    this.urls.push(made);
    return made;
  }

  pressed(event) {
    const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
    if (event.key in steps && !event.target.closest("video")) { this.go(steps[event.key]); return true; }
    if (event.key === "Escape") { location.hash = this.state.back.patch; return true; }
    if (event.key === "m" && this.shade) { this.turn(); return true; }
    return false;
  }

  close() { this.urls.forEach(URL.revokeObjectURL); this.urls = []; }
}

// What the scorer's picture shows side by side: a caption, and what is told who does not see it.
const SQUARES = [
  ["What it was given", "the patch as the scorer was given it"],
  ["Left unmasked", "what was left of the patch unmasked"],
  ["What it rebuilt", "what the scorer rebuilt in the masked places, the rest as it was"],
];

// One of the squares of that picture, with its caption.
function square(src, at, shown, told) {
  const image = h("img", { src, alt: told });
  image.style.objectPosition = `${50 * at}% 0`;
  return h("figure", {}, image, h("figcaption", {}, shown));
}

const isBare = () => localStorage.getItem("mask") === "hidden";

export function tree(value) {
  return h("dl", {}, Object.entries(value).map(([name, held]) => {
    if (Array.isArray(held) && held.some(one => one && typeof one === "object")) return h("details", { open: held.length < 8 }, h("summary", {}, `${name} (${held.length})`), held.map(one => typeof one === "object" && !isFlat(one) ? tree(one) : h("div", {}, sentence(one))));
    if (held && typeof held === "object" && !Array.isArray(held)) return h("details", { open: true }, h("summary", {}, name), tree(held));
    return h("div", {}, h("dt", {}, name), h("dd", {}, plain(held)));
  }));
}

const isFlat = one => Object.values(one).every(value => value === null || typeof value !== "object");
const plain = value => value === null ? "none" : Array.isArray(value) ? value.join(", ") || "none" : typeof value === "number" ? number(value) : String(value);

function sentence(one) {
  if (one === null || typeof one !== "object") return plain(one);
  if ("threshold" in one && "number" in one) return `${one.what} ${number(one.number)}, ${one.bound} ${one.threshold === null ? "unknown" : number(one.threshold)} (${one.knob}): ${one.passed ? "passed" : "failed"}`;
  return Object.entries(one).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${plain(value)}`).join(", ");
}
