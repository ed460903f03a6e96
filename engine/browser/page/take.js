// A view taken along: as files for other programs, as a selection, or as a tag of its patches.
import { address, count, failed, h, many, post, say } from "./dom.js";
import { GONE } from "./views.js";

const TAGGED = 200; // patches at a time
const LAYOUTS = { folder: "folder (zip)", coco: "COCO (zip)", fiftyone: "FiftyOne (zip)" };

export class Taking {
  constructor(state, { written, stale }) {
    Object.assign(this, { state, written, stale });
    this.host = h("select", { "aria-label": "take this view along", onchange: () => this.take() });
  }

  of(view) {
    this.view = view;
    const first = view.rows > TAGGED ? `tag the first ${TAGGED} …` : "tag what is shown …";
    const written = this.state.overview.write ? { selection: "as a selection", tag: first } : {};
    const options = Object.entries({ "": "Take along …", ...LAYOUTS, ...written });
    this.host.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  }

  async take() {
    const how = this.host.value;
    this.host.value = "";
    try {
      if (how === "selection") await this.choose();
      else if (how === "tag") await this.tag();
      else if (how) h("a", { href: address("export", { view: await this.view.held(), layout: how }), download: "" }).click();
    } catch (error) {
      failed(error);
      if (error.status === GONE) this.stale();
    }
  }

  async choose() {
    const made = await this.view.use(key => post("select", { view: key }));
    await this.written();
    tellMade(made);
  }

  async tag() {
    const most = Math.min(this.view.rows, TAGGED), word = prompt(`A tag for the first ${many(most, "patch", "patches")} of this view:`);
    if (!word?.trim()) return;
    const { rows, urls } = await this.view.part(0, most);
    urls.forEach(URL.revokeObjectURL);
    const { tag } = await post("tag", { tag: word, patches: rows.map(row => row.patch_id) });
    await this.written();
    say(`${rows.length === 1 ? "1 patch has" : `${count(rows.length)} patches have`} the tag ${tag}.`);
  }
}

function tellMade(made) {
  const images = many(made.images, "training image"), left = made.left ? `; ${made.left} at the end make no whole image` : "";
  const told = h("dialog", { "aria-labelledby": "made-title", onclose: () => told.remove() },
    h("h2", { id: "made-title" }, "The selection is made"),
    h("p", {}, `${made.selection} has ${many(made.patches, "patch", "patches")} and ${images}${left}.`),
    h("p", {}, "A training on it:"),
    h("p", { class: "id command" }, made.command),
    h("p", { class: "quiet" }, "The recipe tiny needs no GPU; with one put one_gpu in its place, or cluster, or the YAML file that the ",
      "store was made with."),
    h("p", { class: "quiet" }, "selection.named is taken by choose, evaluate, transfer and export too."),
    h("form", { method: "dialog" }, h("button", { class: "main" }, "Close")));
  document.body.append(told);
  told.showModal();
}
