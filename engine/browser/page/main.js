// Which page stands at which address, the keys that work everywhere, and word of a store that grows.
import { ask, count, failed, h, isTyping, link } from "./dom.js";

const PAGES = { patches: "patches", frames: "patches", patch: "patch", video: "video", map: "plane", compare: "compare", sql: "sql" };
const EVERY = 5000; // ms between two looks at whether the store has grown
const state = { overview: null, page: null, turn: 0, words: {}, back: { patch: "#/patches", video: "#/patches" } };
state.renew = async () => { state.overview = await ask("overview"); };

// What a page draws on, until another one is asked for: an answer that comes late would stand under the wrong address.
class Place {
  constructor(host, isWanted) { Object.assign(this, { host, isWanted }); }

  replaceChildren(...shown) { if (this.isWanted()) this.host.replaceChildren(...shown); }

  querySelectorAll(what) { return this.host.querySelectorAll(what); }
}

// The page that an address asks for, and its words.
function read(hash) {
  const [, name = "patches", query = ""] = /^#\/(\w*)\??(.*)$/.exec(hash) ?? [];
  return { page: Object.hasOwn(PAGES, name) ? name : "patches", words: Object.fromEntries(new URLSearchParams(query)) };
}

// Back from a video leads to the patch or the list that it was opened from, back from a patch to the list.
function leave(hash) {
  const { page } = read(hash);
  if (page !== "video") state.back.video = hash;
  if (page !== "video" && page !== "patch") state.back.patch = hash;
}

// Stands for a page for as long as that is read.
function leaving(page) {
  return { pressed: event => event.key === "Escape" && Boolean(location.hash = state.back[page] ?? link("patches", state.words)) };
}

async function open() {
  const { page, words } = read(location.hash), main = document.getElementById("main"), turn = ++state.turn;
  if (page === "patches" || page === "map") state.words = words; // the grid and the map show the same patches
  for (const anchor of document.querySelectorAll("nav a")) {
    const target = /^#\/(\w+)/.exec(anchor.hash)[1];
    if (target === "patches" || target === "map") anchor.hash = link(target, state.words);
    if (target === page || (page === "patch" && target === "patches")) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  try {
    state.overview ??= await ask("overview");
    const { show } = await import(`/page/${PAGES[page]}.js`);
    if (turn !== state.turn) return;
    state.page?.close?.();
    state.page = page === "patches" ? null : leaving(page);
    document.title = `${page} – endocurate`;
    const made = await show(new Place(main, () => turn === state.turn), words, state, page);
    if (turn === state.turn) state.page = made;
    else made?.close?.();
  } catch (error) {
    if (turn !== state.turn) return;
    main.replaceChildren(h("div", { class: "page" }, h("p", { class: "missing", role: "alert" }, error.message), h("a", { class: "button", href: "#/patches" }, "All patches")));
    if (!error.status) failed(error);
  }
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]")) return;
  if (event.key === "?") { document.getElementById("help").showModal(); event.preventDefault(); }
  else if (event.key === "/") { location.hash = "#/sql"; event.preventDefault(); }
  else if (!event.defaultPrevented && state.page?.pressed?.(event)) event.preventDefault();
  else if (event.key === "f" && !state.page?.grid) { location.hash = "#/patches"; event.preventDefault(); }
}

async function look() {
  const place = document.getElementById("grown");
  if (!state.overview || document.hidden) return;
  try {
    const now = await ask("state"), more = now.patches - state.overview.patches;
    if (now.version === state.overview.version && String(now.beside) === String(state.overview.beside)) { place.replaceChildren(); return; }
    const renew = async () => { place.replaceChildren(); await state.renew(); await open(); };
    const told = more > 0 ? `${count(more)} new patches` : more < 0 ? `${count(-more)} patches are gone` : now.version === state.overview.version ? "selections or tags have changed" : "the store has changed";
    if (place.textContent !== `${told}: show`) place.replaceChildren(h("button", { type: "button", class: "main", onclick: renew }, `${told}: show`));
  } catch (error) { place.replaceChildren(h("span", { class: "alarm" }, error.status ? error.message : "the server does not answer")); }
}

addEventListener("hashchange", event => { leave(new URL(event.oldURL).hash || "#/patches"); open(); });
addEventListener("keydown", pressed);
document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
document.querySelector(".skip").addEventListener("click", event => { event.preventDefault(); (document.getElementById("grid") ?? document.getElementById("main")).focus(); });
setInterval(look, EVERY);
open();
