// A grid of any number of rows of which only those in sight exist. A browser draws nothing taller than some millions of pixels,
// so beyond MOST the bar stands for more than it is long: small moves are exact, large ones go by its share.
import { failed, h } from "./dom.js";
import { GONE } from "./views.js";

const MOST = 8_000_000, CHUNK = 60, HELD = 40, SETTLED = 140, AGAIN = 500, RAREST = 60_000;

export class Grid {
  constructor({ label, cell, size, open, moved, stale }) {
    Object.assign(this, { cell, size, open, moved, stale });
    this.space = h("div", { class: "space" });
    this.host = h("div", { class: "grid", tabIndex: 0, role: "listbox", "aria-label": label, id: "grid" }, this.space);
    this.cells = new Map();
    this.chunks = new Map();
    this.view = null;
    this.total = 0;
    this.at = 0;
    this.top = this.last = this.first = this.share = 0; // `first` is the row at the upper edge, of which a `share` is above it
    this.failures = this.until = 0;
    this.host.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.host.addEventListener("keydown", event => this.pressed(event));
    this.watch = new ResizeObserver(() => this.resized());
    this.watch.observe(this.host);
  }

  show(view) {
    this.forget();
    Object.assign(this, { view, total: view.rows, at: Math.min(view.at, Math.max(0, view.rows - 1)), failures: 0, until: 0 });
    this.resized();
    this.reveal();
    if (this.columns) this.edge();
  }

  forget() {
    for (const chunk of this.chunks.values()) this.drop(chunk);
    this.chunks.clear();
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
  }

  close() { this.watch.disconnect(); clearTimeout(this.settling); clearTimeout(this.waiting); this.forget(); }

  drop(chunk) {
    chunk.stop.abort();
    for (const url of chunk.urls ?? []) URL.revokeObjectURL(url);
  }

  resized() {
    const width = this.host.clientWidth;
    if (!width) return;
    const { wide, high } = this.size(width);
    this.columns = Math.max(1, Math.floor(width / wide));
    this.wide = width / this.columns;
    this.high = high ?? this.wide + 32;
    this.length = Math.ceil(this.total / this.columns) * this.high;
    this.space.style.height = `${Math.min(this.length, MOST)}px`;
    for (const cell of this.cells.values()) cell.remove();
    this.cells.clear();
    this.place((Math.floor(this.first / this.columns) + this.share) * this.high);
    this.draw();
    this.fetch();
  }

  place(top) {
    this.top = Math.min(Math.max(0, top), this.reach);
    this.host.scrollTop = this.length <= MOST ? this.top : this.reach ? this.top / this.reach * this.bar : 0;
    this.last = this.host.scrollTop;
  }

  edge() {
    this.first = Math.floor(this.top / this.high) * this.columns;
    this.share = this.top / this.high % 1;
  }

  get reach() { return Math.max(0, this.length - this.host.clientHeight); }
  get bar() { return Math.max(0, Math.min(this.length, MOST) - this.host.clientHeight); }

  scrolled() {
    const now = this.host.scrollTop, moved = now - this.last, all = this.bar;
    if (!moved || !this.columns) return; // it was put there
    const isSmall = Math.abs(moved) < 2 * this.host.clientHeight && now > 0 && now < all;
    this.top = this.length <= MOST ? now : isSmall ? this.top + moved : all ? now / all * this.reach : 0;
    this.top = Math.min(Math.max(0, this.top), this.reach);
    this.last = now;
    this.edge();
    this.draw();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => { this.settle(); this.fetch(); }, SETTLED);
    if (Math.abs(moved) < 3 * this.host.clientHeight) this.fetch();
  }

  settle() { // puts the bar where it belongs, without a move
    if (this.length <= MOST) return;
    const place = this.reach ? this.top / this.reach * this.bar : 0;
    this.host.scrollTop = place;
    this.last = this.host.scrollTop;
    this.draw();
  }

  draw() {
    const { first, end } = this.seen(2);
    for (const [index, cell] of this.cells) if (index < first || index >= end) { cell.remove(); this.cells.delete(index); }
    for (let index = first; index < end; index++) {
      let cell = this.cells.get(index);
      const row = this.row(index);
      if (!cell || (row && !cell.filled)) {
        cell?.remove();
        cell = this.cell(row);
        cell.filled = Boolean(row);
        cell.id = `cell-${index}`;
        cell.setAttribute("role", "option");
        cell.setAttribute("aria-setsize", this.total);
        cell.setAttribute("aria-posinset", index + 1);
        cell.addEventListener("click", () => { this.at = index; this.open(index); });
        this.cells.set(index, cell);
        this.host.append(cell);
      }
      cell.setAttribute("aria-selected", index === this.at);
      const y = this.last + Math.floor(index / this.columns) * this.high - this.top;
      const transform = `translate(${(index % this.columns) * this.wide}px, ${y}px)`;
      Object.assign(cell.style, { transform, width: `${this.wide}px`, height: `${this.high}px` });
    }
    if (this.cells.has(this.at)) this.host.setAttribute("aria-activedescendant", `cell-${this.at}`);
    else this.host.removeAttribute("aria-activedescendant");
  }

  seen(more) {
    const first = Math.max(0, Math.floor(this.top / this.high) - more) * this.columns;
    const rows = Math.ceil(this.host.clientHeight / this.high) + 2 * more + 1;
    return { first, end: Math.min(this.total, first + rows * this.columns) };
  }

  row(index) {
    const chunk = this.chunks.get(Math.floor(index / CHUNK));
    const row = chunk?.rows?.[index % CHUNK];
    return row && { ...row, url: chunk.urls[index % CHUNK] };
  }

  fetch() {
    if (!this.columns || !this.total || performance.now() < this.until) return;
    const { first, end } = this.seen(3), from = Math.floor(first / CHUNK), to = Math.floor((end - 1) / CHUNK);
    for (const [number, chunk] of this.chunks) {
      const isFar = number < from || number > to;
      if (isFar && (!chunk.rows || this.chunks.size > HELD)) { this.drop(chunk); this.chunks.delete(number); }
    }
    for (let number = from; number <= to; number++) if (!this.chunks.has(number)) this.load(number);
  }

  async load(number) {
    const chunk = { stop: new AbortController() };
    this.chunks.set(number, chunk);
    try {
      const found = await this.view.part(number * CHUNK, CHUNK, chunk.stop.signal);
      if (this.chunks.get(number) !== chunk) return this.drop({ stop: chunk.stop, urls: found.urls });
      Object.assign(chunk, found);
      this.failures = 0;
      this.draw();
      this.moved?.(this.at);
    } catch (error) {
      if (this.chunks.get(number) !== chunk) return; // let go of meanwhile
      this.chunks.delete(number);
      if (error.status === GONE) this.stale();
      else this.later(error);
    }
  }

  later(error) { // once more soon, then said and ever more rarely: what cannot be read now is not read by asking without pause
    if (performance.now() < this.until) return; // another part in sight has failed already
    this.failures++;
    const wait = Math.min(AGAIN * 4 ** (this.failures - 1), RAREST);
    this.until = performance.now() + wait;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => { this.until = 0; this.fetch(); }, wait);
    if (this.failures > 1) failed(error);
  }

  reveal() {
    if (!this.columns) return;
    const y = Math.floor(this.at / this.columns) * this.high, tall = this.host.clientHeight;
    if (y < this.top || y + this.high > this.top + tall) {
      this.place(y < this.top ? y : y + this.high - tall);
      this.edge();
    }
    this.draw();
    this.fetch();
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.host.clientHeight / this.high)) * this.columns;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page,
      Home: -Infinity, End: Infinity,
    };
    if (event.key === "Enter" && this.total) { event.preventDefault(); this.open(this.at); return; }
    if (!(event.key in steps)) return;
    event.preventDefault();
    const wanted = this.at + steps[event.key];
    if (Math.abs(steps[event.key]) === this.columns && (wanted < 0 || wanted >= this.total)) return;
    this.at = Math.min(Math.max(0, wanted), Math.max(0, this.total - 1));
    this.reveal();
    this.moved?.(this.at);
  }
}
