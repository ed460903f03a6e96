// Elements and questions. Whatever comes from the store becomes text, never markup.

export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name in made && name !== "list" && name !== "form") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

// A patch of colour in a legend.
export function swatch(colour) {
  const made = h("i");
  made.style.background = colour;
  return made;
}

// A canvas drawn anew whenever its size or the colours change; returns what ends that.
export function drawn(canvas, draw) {
  const again = () => {
    const { width, height } = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
    if (!width || !height) return;
    Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    draw(pen, width, height, name => getComputedStyle(canvas).getPropertyValue(`--${name}`));
  };
  const watch = new ResizeObserver(again), scheme = matchMedia("(prefers-color-scheme: dark)");
  watch.observe(canvas);
  scheme.addEventListener("change", again);
  return { again, close: () => { watch.disconnect(); scheme.removeEventListener("change", again); } };
}

export class Refused extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

async function checked(answer) {
  if (answer.ok) return answer;
  const text = await answer.text();
  let told = text;
  try { told = JSON.parse(text).error ?? text; } catch { /* a sentence as it is */ }
  throw new Refused(answer.status >= 500 && answer.status !== 503 ? "The server met a bug; its terminal says which." : told, answer.status);
}

export function address(name, words = {}) {
  return `/api/${name}?${said(words)}`;
}

export async function ask(name, words, signal) {
  return (await checked(await fetch(address(name, words), { signal }))).json();
}

export async function bytes(name, words, signal) {
  return (await checked(await fetch(address(name, words), { signal }))).arrayBuffer();
}

export async function post(name, body) {
  const sent = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await checked(await fetch(`/api/${name}`, sent))).json();
}

let hiding;
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.hidden = !text;
  clearTimeout(hiding);
  hiding = setTimeout(() => { place.hidden = true; }, 9000);
}

export function failed(error) {
  if (error.name !== "AbortError") say(error instanceof Refused ? error.message : `The server does not answer (${error.message}).`);
}

const round = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }), whole = new Intl.NumberFormat("en");
export const number = value => value === null || value === undefined ? "–" : (Number.isInteger(value) ? whole : round).format(value);
export const count = value => whole.format(value);
export const many = (value, one, all = `${one}s`) => `${count(value)} ${value === 1 ? one : all}`;
export function clock(ms) {
  if (ms === null || ms === undefined) return "–";
  const tenths = Math.round(ms / 100); // rounded first: 59.96 s are 1:00.0
  const minutes = Math.floor(tenths / 600), seconds = (tenths % 600 / 10).toFixed(1);
  return minutes ? `${minutes}:${seconds.padStart(4, "0")}` : `${seconds} s`;
}
export const short = id => id.length > 10 ? `${id.slice(0, 8)}…` : id;
export const link = (page, words = {}) => `#/${page}?${said(words)}`;
const said = words => new URLSearchParams(Object.entries(words).filter(([, value]) => !["", undefined, null].includes(value)));

const NO_REGION = "no region"; // the one reason of a frame that the gate kept
export const isRejected = reason => Boolean(reason) && reason !== NO_REGION;
export const verdict = reason => reason === NO_REGION ? "kept, without a region" : reason ?? "kept";

// Whether the focus is where a page that was just opened has it: on nothing that a key could be for.
export const isNowhere = () => [document.body, document.getElementById("main")].includes(document.activeElement)
  || document.activeElement?.matches("main h1");
export const isTyping = ({ target }) => Boolean(target.closest?.("input, textarea, select, [contenteditable]"));
