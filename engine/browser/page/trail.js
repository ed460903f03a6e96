// Where a patch was opened from: what stands before it there, and what after it.
const trail = { list: null, id: "" }; // the patch at `list.at`

// Go along a list from one of its patches on; of a patch that stands in none there is nothing before and nothing after.
export function follow(list, at = 0, id = "") {
  if (list) list.at = at;
  Object.assign(trail, { list, id });
}

// The patch so many places on, or nothing where the list ends; `id` is the one that is shown.
export async function further(by, id) {
  if (!leads(by, id)) return null;
  const { list } = trail, at = list.at + by, found = await list.id(at);
  follow(list, at, found);
  return found;
}

export function leads(by, id) {
  const { list } = trail, at = list ? list.at + by : -1;
  return trail.id === id && at >= 0 && at < list.rows;
}

// Patches that are known by their ids only, as those of an answer to SQL.
export class Ids {
  constructor(ids) { Object.assign(this, { ids, rows: ids.length, at: 0 }); }

  id(at) { return this.ids[at]; }
}
