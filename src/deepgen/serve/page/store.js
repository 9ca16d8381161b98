// Images that were made, kept in this browser: newest 500, 500 MB at most.

const NAME = "deepgen";

/** What is kept at most; then the oldest go. */
export const limits = { entries: 500, bytes: 500e6 };

let database = null;
let memory = null;

/**
 * Open the store.
 * @returns {Promise<boolean>} whether it outlasts the page
 */
export async function open() {
  try {
    database = await new Promise((resolve, reject) => {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => {
        // Small entries apart from files, so that the list does not read every image.
        request.result.createObjectStore("entries", { keyPath: "id", autoIncrement: true });
        request.result.createObjectStore("files");
      };
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
      request.onblocked = () => reject(new Error("blocked"));
    });
    database.onversionchange = () => database.close();
    return true;
  } catch {
    memory = { entries: new Map(), files: new Map(), next: 1 };
    return false;
  }
}

/** All entries, newest first. */
export async function list() {
  const found = memory
    ? [...memory.entries.values()]
    : await run("readonly", (entries) => entries.getAll());
  return found.sort((one, other) => other.id - one.id);
}

/**
 * Add an image.
 * @param {object} entry record, thumbnail and the sizes of files
 * @param {{image: Blob, sources: Blob[], mask: Blob|null}} files
 * @returns {Promise<number[]>} its number, then those of the oldest that had to go
 */
export async function add(entry, files) {
  let bytes = files.image.size + (files.mask?.size ?? 0);
  for (const each of files.sources) bytes += each.size;
  const kept = { ...entry, bytes };
  let id;
  if (memory) {
    id = memory.next++;
    memory.entries.set(id, { ...kept, id });
    memory.files.set(id, files);
  } else {
    // Requested once there is something to lose.
    navigator.storage?.persist?.().catch(() => {});
    id = await run("readwrite", (entries, stored, done) => {
      const request = entries.add(kept);
      request.onsuccess = () => {
        stored.put(files, request.result);
        done(request.result);
      };
    });
  }
  let sum = 0;
  const old = (await list())
    .filter(({ bytes: size }, index) => (sum += size) > limits.bytes || index >= limits.entries)
    .map((each) => each.id)
    .filter((each) => each !== id);
  await remove(old);
  return [id, ...old];
}

/** The files of an entry, or undefined. */
export const filesOf = (id) =>
  memory ? Promise.resolve(memory.files.get(id)) : run("readonly", (_, files) => files.get(id));

export async function remove(ids) {
  if (!ids.length) return;
  if (memory) {
    for (const id of ids) for (const each of [memory.entries, memory.files]) each.delete(id);
    return;
  }
  await run("readwrite", (entries, files, done) => {
    for (const id of ids) for (const each of [entries, files]) each.delete(id);
    done();
  });
}

/** Work in one transaction; resolves when it is complete. */
function run(mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(["entries", "files"], mode);
    let result;
    const request = work(
      transaction.objectStore("entries"),
      transaction.objectStore("files"),
      (value) => (result = value),
    );
    transaction.oncomplete = () => resolve(request ? request.result : result);
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error ?? new Error("aborted"));
  });
}
