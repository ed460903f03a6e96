// One patch: its picture, the frame it is from with its box, the seconds around it, what the scorer rebuilds, and why it is there.
import { address, ask, bytes, clock, failed, h, link, number, post, short } from "./dom.js";
import { further, leads } from "./trail.js";
import { tree } from "./tree.js";

const STEPS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
const UNMASKED = "No mask is kept of it: its proposer cuts no regions, or it was taken in before masks were kept.";
const OF_FRAME = "Only what the store would keep: cut to the endoscope's picture, burnt-in text hidden. Boxes are those of its patches.";
const OF_CLIP = "Two seconds before and after, cut and blacked out as the frame is; moments that are dark, glaring or outside the body "
  + "stay black.";
const OF_REBUILT = "Under the first of the masks that the score is a mean of.";
// What the scorer's picture shows side by side: a caption, and what is told who does not see it.
const SQUARES = [
  ["What it was given", "the patch as the scorer was given it"],
  ["Left unmasked", "what was left of the patch unmasked"],
  ["What it rebuilt", "what the scorer rebuilt in the masked places, the rest as it was"],
];

export async function show(main, { id = "" }, state) {
  const told = await ask("patch", { id });
  const page = new Page(main, told, state);
  page.draw();
  return page;
}

class Page {
  constructor(main, told, state) { Object.assign(this, { main, told, state, urls: [] }); }

  draw() {
    const { content } = this.told.frame, shape = (content[3] - content[1]) / (content[2] - content[0]);
    this.frame = h("figure", {}, awaited("Reading the frame from its video …", shape));
    this.clip = h("figure", {}, h("button", { type: "button", onclick: () => this.play() }, "Play the seconds around it"));
    this.rebuilt = h("figure", {}, awaited("Asking the scorer …", SQUARES.length));
    this.main.replaceChildren(h("div", { class: "page" }, this.links(), h("div", { class: "patch" },
      h("div", {},
        h("section", { class: "card", "aria-label": "frame" }, h("h2", {}, "In its frame"), this.frame, this.clip),
        h("section", { class: "card", "aria-label": "rebuilt" }, h("h2", {}, "As the scorer sees it"), this.rebuilt)),
      h("div", {}, this.about(),
        h("section", { class: "card tree", "aria-label": "why it is there" }, h("h2", {}, "Why it is there"), tree(this.told.story))))));
    this.load();
  }

  links() {
    const { patch } = this.told, { video_id: id, time_ms: at } = patch;
    return h("div", { class: "row" },
      h("a", { class: "button", href: this.state.back.patch }, "← Back"), this.step(-1, "‹ Before"), this.step(1, "After ›"),
      h("a", { class: "button", href: link("patches", { like: patch.patch_id }) }, "More like this"),
      h("a", { class: "button", href: link("video", { id, at }) }, "Its video"));
  }

  about() {
    const { patch } = this.told, video = link("video", { id: patch.video_id, at: patch.time_ms });
    const picture = h("img", {
      class: "whole", src: address("picture", { id: patch.patch_id }), alt: `the patch, ${patch.width} by ${patch.height} pixels`,
    });
    this.tags = h("div", {}, this.tagged());
    return h("section", { class: "card" }, h("h1", {}, `Difficulty ${number(patch.difficulty)}`),
      h("p", { class: "quiet" }, `${clock(patch.time_ms)} of `, h("a", { href: video }, short(patch.video_id))),
      h("div", { class: "stage own" }, picture, this.mask({ top: 0, left: 0, width: "100%", height: "100%" })),
      this.masked(), h("p", { class: "id quiet" }, patch.patch_id), this.tags);
  }

  step(by, name) {
    return h("button", { type: "button", disabled: !leads(by, this.told.patch.patch_id), onclick: () => this.go(by) }, name);
  }

  // The region's mask over a picture, where it lies in it; nothing of a patch without one.
  mask(place) {
    const { patch, mask } = this.told;
    if (mask === null) return null;
    const told = `the mask of the region, ${Math.round(100 * mask)} % of the box`;
    const laid = h("img", { class: "mask", src: address("mask", { id: patch.patch_id }), hidden: isBare(), alt: told });
    Object.assign(laid.style, place);
    return laid;
  }

  masked() {
    if (this.told.mask === null) return h("p", { class: "quiet" }, UNMASKED);
    this.shade = h("button", {
      type: "button", class: "shade", "aria-pressed": String(!isBare()), onclick: () => this.turn(),
    }, "Mask ", h("kbd", {}, "m"));
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

  tagged() {
    const { write } = this.state.overview;
    const taken = word => h("button", { type: "button", "aria-label": `remove the tag ${word}`, onclick: () => this.tag(word, true) }, "✕");
    const found = word => h("a", { class: "button", href: link("patches", { tag: word }) }, word);
    const one = word => h("span", { class: "row" }, found(word), write && taken(word));
    this.field = h("input", { "aria-label": "a new tag", placeholder: "a new tag", maxLength: 40, class: "grow" });
    const given = event => {
      event.preventDefault();
      if (this.field.value.trim()) this.tag(this.field.value, false);
    };
    const form = h("form", { class: "row", onsubmit: given }, this.field, h("button", {}, "Tag"));
    return h("div", { class: "tags" }, this.told.tags.length > 0 && h("div", { class: "row" }, this.told.tags.map(one)), write && form);
  }

  async tag(word, remove) {
    const { patch_id: id } = this.told.patch;
    try {
      await post("tag", { tag: word, patches: [id], remove });
      await this.state.renew();
      this.told = await ask("patch", { id });
      this.tags.replaceChildren(this.tagged());
      this.field.focus();
    } catch (error) { failed(error); }
  }

  async load() {
    const { patch, frame } = this.told;
    const three = ({ src }) => h("div", { class: "three" }, SQUARES.map(([shown, told], at) => square(src, at, shown, told)));
    await Promise.all([
      this.picture(this.frame, "frame", frame.frame_id, image => [this.stage(image), h("figcaption", {}, OF_FRAME)]),
      this.picture(this.rebuilt, "rebuilt", patch.patch_id, image => [three(image), h("figcaption", {}, OF_REBUILT)]),
    ]);
  }

  async picture(place, what, id, shown) {
    try {
      const image = h("img", { src: this.url(await bytes(what, { id }), "image/jpeg"), alt: what === "frame" ? ALT : "" });
      await image.decode().catch(() => {}); // it has its size then, and nothing moves when it is put in; a broken one is shown as that
      place.replaceChildren(...shown(image));
    } catch (error) { place.replaceChildren(h("p", { class: "missing" }, error.message)); }
  }

  // A picture of the frame with the boxes of its patches on it; over a film only that of this patch.
  stage(shown) {
    const { patch, beside } = this.told, isStill = shown.tagName === "IMG";
    const mine = this.box(beside.find(one => one.patch_id === patch.patch_id)), { top, left, height, width } = mine.style;
    if (!isStill) return h("div", { class: "stage" }, shown, mine);
    const others = beside.filter(one => one.patch_id !== patch.patch_id).sort((one, other) => area(other.box) - area(one.box));
    const mask = this.mask({ top, left, height, width }); // below the boxes, which are to be clicked
    // The smaller above the larger, and this one above all.
    return h("div", { class: "stage" }, shown, mask, others.map(one => this.box(one)), mine);
  }

  box({ patch_id: id, box: [y0, x0, y1, x1], difficulty }) {
    const { patch, frame } = this.told, [top, left, bottom, right] = frame.content, isThis = id === patch.patch_id;
    const share = (value, of) => `${100 * value / of}%`;
    const made = h("button", {
      type: "button", class: isThis ? "box this" : "box", tabIndex: isThis ? -1 : 0,
      "aria-label": isThis ? "this patch" : `another patch, difficulty ${number(difficulty)}`,
      onclick: () => { if (!isThis) location.hash = link("patch", { id }); },
    });
    Object.assign(made.style, {
      top: share(y0 - top, bottom - top), left: share(x0 - left, right - left),
      height: share(y1 - y0, bottom - top), width: share(x1 - x0, right - left),
    });
    return made;
  }

  async play() {
    this.clip.replaceChildren(h("p", { class: "missing" }, "Cutting the seconds around it …"));
    try {
      const src = this.url(await bytes("clip", { id: this.told.frame.frame_id }), "video/mp4");
      const video = h("video", {
        src, controls: true, autoplay: true, muted: true, loop: true, "aria-label": "two seconds before and after",
      });
      video.setAttribute("playsinline", "");
      this.clip.replaceChildren(this.stage(video), h("figcaption", {}, OF_CLIP));
    } catch (error) { this.clip.replaceChildren(h("p", { class: "missing" }, error.message)); }
  }

  url(content, type) {
    const made = URL.createObjectURL(new Blob([content], { type }));
    this.urls.push(made);
    return made;
  }

  get title() {
    const { difficulty, time_ms: at, video_id: video } = this.told.patch;
    return `patch ${number(difficulty)}, ${clock(at)} of ${short(video)}`;
  }

  pressed(event) {
    if (event.key in STEPS && !event.target.closest("video")) this.go(STEPS[event.key]);
    else if (event.key === "Escape") location.hash = this.state.back.patch;
    else if (event.key === "m" && this.shade) this.turn();
    else return false;
    return true;
  }

  close() { this.urls.forEach(URL.revokeObjectURL); this.urls = []; }
}

const ALT = "the frame, with the boxes of its patches";
const area = ([y0, x0, y1, x1]) => (y1 - y0) * (x1 - x0);
const isBare = () => localStorage.getItem("mask") === "hidden";

// What stands for a picture until it comes, as large as that will be: `shape` is its width by its height.
function awaited(text, shape) {
  const made = h("p", { class: "missing awaited" }, text);
  made.style.setProperty("--shape", shape);
  return made;
}

// One of the squares of the scorer's picture, with its caption.
function square(src, at, shown, told) {
  const image = h("img", { src, alt: told });
  image.style.objectPosition = `${50 * at}% 0`;
  return h("figure", {}, image, h("figcaption", {}, shown));
}
