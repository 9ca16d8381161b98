// A ZIP archive of files that are compressed already.

import { crc32 } from "./crc.js";

const LIMIT = 0xffffffff;

/** @param {{name: string, bytes: Uint8Array, time: Date}[]} files with names of their own */
export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes, time } of files) {
    const encoded = new TextEncoder().encode(name);
    const head = header(encoded, bytes, time);
    parts.push(new Uint8Array([0x50, 0x4b, 3, 4]), head, encoded, bytes);
    const tail = new DataView(new ArrayBuffer(14));
    tail.setUint32(10, offset, true);
    directory.push(
      new Uint8Array([0x50, 0x4b, 1, 2, 20, 0]),
      head,
      new Uint8Array(tail.buffer),
      encoded,
    );
    offset += 4 + head.length + encoded.length + bytes.length;
    if (offset > LIMIT) throw new RangeError("too large for a ZIP archive");
  }
  const length = directory.reduce((sum, each) => sum + each.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, length, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...directory, end.buffer], { type: "application/zip" });
}

/** What the entry of a file and that of the directory have in common: 26 bytes. */
function header(name, bytes, time) {
  const view = new DataView(new ArrayBuffer(26));
  view.setUint16(0, 20, true);
  // Names are UTF-8.
  view.setUint16(2, 0x0800, true);
  const clock = (time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1);
  const day = ((time.getFullYear() - 1980) << 9) | ((time.getMonth() + 1) << 5) | time.getDate();
  view.setUint16(6, clock, true);
  view.setUint16(8, day, true);
  view.setUint32(10, crc32(bytes), true);
  view.setUint32(14, bytes.length, true);
  view.setUint32(18, bytes.length, true);
  view.setUint16(22, name.length, true);
  return new Uint8Array(view.buffer);
}
