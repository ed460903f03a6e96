// What is told of a thing, as a tree of names and values.
import { h, number } from "./dom.js";

export function tree(value) {
  return h("dl", {}, Object.entries(value).map(([name, held]) => {
    if (Array.isArray(held) && held.some(one => one && typeof one === "object")) {
      const told = held.map(one => typeof one === "object" && !isFlat(one) ? tree(one) : h("div", {}, sentence(one)));
      return h("details", { open: held.length < 8 }, h("summary", {}, `${titled(name)} (${held.length})`), told);
    }
    if (held && typeof held === "object" && !Array.isArray(held)) {
      return h("details", { open: true }, h("summary", {}, titled(name)), tree(held));
    }
    return h("div", {}, h("dt", {}, titled(name)), h("dd", {}, plain(held)));
  }));
}

const titled = name => /^[a-z_]+$/.test(name) ? name.replaceAll("_", " ") : name; // names of columns as words; knobs and ids as they are
const isFlat = one => Object.values(one).every(value => value === null || typeof value !== "object");

function plain(value) {
  if (value === null) return "none";
  if (Array.isArray(value)) return value.join(", ") || "none";
  return typeof value === "number" ? number(value) : String(value);
}

function sentence(one) {
  if (one === null || typeof one !== "object") return plain(one);
  if ("threshold" in one && "number" in one) {
    const threshold = one.threshold === null ? "unknown" : number(one.threshold);
    return `${one.what} ${number(one.number)}, ${one.bound} ${threshold} (${one.knob}): ${one.passed ? "passed" : "failed"}`;
  }
  return Object.entries(one).filter(([, value]) => value !== null).map(([name, value]) => `${titled(name)} ${plain(value)}`).join(", ");
}
