// A view: rows in an order that the server has made and holds for a while. It holds few, whoever asks for them; one that it has let go
// of is made again, and is the same for as long as nothing has changed in the store.
import { ask, bytes, Refused } from "./dom.js";

export const GONE = 410; // of what is no longer held

export async function view(words) {
  return new View(words, await ask("view", words));
}

class View {
  constructor(words, { view: key, rows, of }) { Object.assign(this, { words, key, rows, of, at: 0 }); }

  // What `work` gives for the key of this view; refused where the same words give other rows by now.
  async use(work) {
    try { return await work(this.key); } catch (error) { if (error.status !== GONE) throw error; }
    const { view: key } = await ask("view", this.words);
    if (key !== this.key) throw new Refused("The store has changed since this was shown.", GONE);
    return work(this.key);
  }

  part(first, many, signal) { return this.use(key => part(key, first, many, signal)); }

  // Its key, which is held by now.
  async held() {
    await this.part(0, 1).then(({ urls }) => urls.forEach(URL.revokeObjectURL));
    return this.key;
  }

  async id(at) {
    const { rows, urls } = await this.part(at, 1);
    urls.forEach(URL.revokeObjectURL);
    return rows[0].patch_id;
  }
}

// Some rows, and an address for the picture of each.
async function part(key, first, many, signal) {
  const buffer = await bytes("rows", { view: key, first, count: many }, signal);
  const length = new DataView(buffer).getUint32(0, true);
  const { rows, sizes } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let place = 4 + length;
  const urls = sizes.map(size => {
    const jpeg = new Uint8Array(buffer, place, size);
    place += size;
    return URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
  });
  return { rows, urls };
}
