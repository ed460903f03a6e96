// Which page stands at which address, the keys that work everywhere, and word of a store that grows.
import { ask, failed, h, isTyping, link, many } from "./dom.js";

const PAGES = { patches: "patches", frames: "patches", patch: "patch", video: "video", map: "plane", compare: "compare", sql: "sql" };
const EVERY = 5000; // ms between two looks at whether the store has grown
const state = { overview: null, page: null, name: "", turn: 0, words: {}, back: { patch: "#/patches", video: "#/patches" } };
state.entitle = () => { document.title = `${state.page?.title ?? state.name} – endocurate`; };
state.renew = async () => { state.overview = await ask("overview"); };

// What a page draws on, until another one is asked for: an answer that comes late would stand under the wrong address.
class Place {
  constructor(host, isWanted) { Object.assign(this, { host, isWanted }); }

  replaceChildren(...shown) { if (this.isWanted()) this.host.replaceChildren(...shown); }

  querySelectorAll(what) { return this.host.querySelectorAll(what); }
}

// The page that an address asks for, and its words.
function read(hash) {
  const [, asked = "patches", query = ""] = /^#\/(\w*)\??(.*)$/.exec(hash) ?? [];
  const { table, ...words } = Object.fromEntries(new URLSearchParams(query)); // as the server is asked; here the page says which one
  const name = asked === "patches" && table === "frames" ? table : asked;
  return { page: Object.hasOwn(PAGES, name) ? name : "patches", words };
}

// Back from a video leads to the patch or the list that it was opened from, back from a patch to the list.
function leave(hash) {
  const { page } = read(hash);
  if (page !== "video") state.back.video = hash;
  if (page !== "video" && page !== "patch") state.back.patch = hash;
}

// Stands for a page for as long as that is read; the grid, which others lead back to, is left for none.
function leaving(page) {
  if (page === "patches") return null;
  return { pressed: event => event.key === "Escape" && Boolean(location.hash = state.back[page] ?? link("patches", state.words)) };
}

async function open() {
  const { page, words } = read(location.hash), main = document.getElementById("main"), turn = ++state.turn;
  if (page === "patches" || page === "map") state.words = words; // the grid and the map show the same patches
  mark(page);
  main.setAttribute("aria-busy", "true");
  try {
    state.overview ??= await ask("overview");
    if (state.name === page && state.page?.again) await state.page.again(words);
    else await turnTo(page, words, turn);
    if (turn === state.turn) focus(main);
    if (state.isFiltering && turn === state.turn) state.page?.showFilters?.();
  } catch (error) {
    if (turn !== state.turn) return;
    refuse(page, error);
    focus(main);
  }
  if (turn !== state.turn) return;
  state.isFiltering = false;
  state.entitle();
  main.setAttribute("aria-busy", "false");
}

// Whoever has opened a page by a key or hears it read goes on at its heading; the grid has the focus at its patch.
function focus(main) {
  if (state.page?.grid || main.querySelector(":focus")) return;
  const heading = main.querySelector("h1") ?? main;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

async function turnTo(page, words, turn) {
  const { show } = await import(`/page/${PAGES[page]}.js`);
  if (turn !== state.turn) return;
  state.page?.close?.();
  Object.assign(state, { name: page, page: leaving(page) });
  const made = await show(new Place(document.getElementById("main"), () => turn === state.turn), words, state, page);
  if (turn === state.turn) state.page = made;
  else made?.close?.();
}

function refuse(page, error) {
  state.page?.close?.();
  state.page = leaving(page);
  document.getElementById("main").replaceChildren(h("div", { class: "page" },
    h("p", { class: "missing", role: "alert" }, error.message), h("a", { class: "button", href: "#/patches" }, "All patches")));
  if (!error.status) failed(error);
}

function mark(page) {
  for (const anchor of document.querySelectorAll("nav a")) {
    const target = /^#\/(\w+)/.exec(anchor.hash)[1];
    if (target === "patches" || target === "map") anchor.hash = link(target, state.words);
    if (target === page || (page === "patch" && target === "patches")) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || document.querySelector("dialog[open]")) return;
  if (event.key === "?") document.getElementById("help").showModal();
  else if (event.key === "/") location.hash = "#/sql";
  else if (!event.defaultPrevented && state.page?.pressed?.(event)) event.preventDefault();
  else if (event.key === "f" && !state.page?.grid) toFilters();
  if (["?", "/", "f"].includes(event.key)) event.preventDefault();
}

// The list that a page was opened from, with its filters open; of a page that was opened from none the patches that were shown last.
function toFilters() {
  const from = state.back[state.name] ?? "";
  state.isFiltering = true;
  location.hash = /^#\/(patches|frames)\b/.test(from) ? from : link("patches", state.words);
}

async function look() {
  const place = document.getElementById("grown");
  if (!state.overview || document.hidden) return;
  try {
    const told = changed(state.overview, await ask("state"));
    const renew = async () => { place.replaceChildren(); await state.renew(); await open(); };
    if (!told) place.replaceChildren();
    else if (place.textContent !== `${told}: show`) {
      place.replaceChildren(h("button", { type: "button", class: "main", onclick: renew }, `${told}: show`));
    }
  } catch (error) { place.replaceChildren(h("span", { class: "alarm" }, error.status ? error.message : "the server does not answer")); }
}

// What is new in the store, in words; nothing where nothing is.
function changed(then, now) {
  const more = now.patches - then.patches;
  if (now.version === then.version) return String(now.beside) === String(then.beside) ? "" : "selections or tags have changed";
  if (more > 0) return many(more, "new patch", "new patches");
  return more < 0 ? `${many(-more, "patch is", "patches are")} gone` : "the store has changed";
}

addEventListener("hashchange", event => { leave(new URL(event.oldURL).hash || "#/patches"); open(); });
addEventListener("keydown", pressed);
document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
document.querySelector(".skip").addEventListener("click", event => {
  event.preventDefault();
  (document.getElementById("grid") ?? document.getElementById("main")).focus();
});
setInterval(look, EVERY);
open();
