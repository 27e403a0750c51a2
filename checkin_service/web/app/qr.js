// Bytes as a QR code (ISO/IEC 18004): error correction level L, versions 1 to 40, mask 0.

// per version, level L
const CHECK_BYTES = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30];
const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18, 19, 19, 20, 21, 22, 24, 25];
const LEVEL_AND_MASK = 0b01_000;

/** Rows of booleans, dark ones true, without the quiet zone of four. Throws for more than 2,953 bytes. */
export function qrCode(bytes) {
  const version = BLOCKS.findIndex((_, index) => headBits(index + 1) + bytes.length * 8 <= dataBytes(index + 1) * 8) + 1;
  if (!version) throw new RangeError();
  const grid = functionModules(version);
  fill(grid, interleaved(version, encoded(version, bytes)));
  return grid.map((row) => row.map(Boolean));
}

function headBits(version) {
  return 4 + (version < 10 ? 8 : 16);
}

function allBytes(version) {
  let modules = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const marks = Math.floor(version / 7) + 2;
    modules -= (25 * marks - 10) * marks - 55;
    if (version >= 7) modules -= 36;
  }
  return Math.floor(modules / 8);
}

function dataBytes(version) {
  return allBytes(version) - CHECK_BYTES[version - 1] * BLOCKS[version - 1];
}

function encoded(version, bytes) {
  const bits = [];
  const push = (value, length) => {
    for (let at = length - 1; at >= 0; at -= 1) bits.push((value >>> at) & 1);
  };
  push(0b0100, 4);
  push(bytes.length, headBits(version) - 4);
  for (const byte of bytes) push(byte, 8);
  push(0, Math.min(4, dataBytes(version) * 8 - bits.length));
  push(0, -bits.length & 7);
  const made = Array.from({ length: bits.length / 8 }, (_, at) => Number.parseInt(bits.slice(at * 8, at * 8 + 8).join(""), 2));
  for (let pad = 0; made.length < dataBytes(version); pad += 1) made.push(pad % 2 ? 0x11 : 0xec);
  return made;
}

// --- Error correction: Reed and Solomon's over GF(256) ---

function product(x, y) {
  let z = 0;
  for (let bit = 7; bit >= 0; bit -= 1) z = (z << 1) ^ ((z >>> 7) * 0x11d) ^ (((y >>> bit) & 1) * x);
  return z;
}

function divisor(degree) {
  const made = [...Array(degree - 1).fill(0), 1];
  let root = 1;
  for (let step = 0; step < degree; step += 1) {
    for (let at = 0; at < degree; at += 1) made[at] = product(made[at], root) ^ (made[at + 1] ?? 0);
    root = product(root, 2);
  }
  return made;
}

function checkBytes(data, by) {
  const rest = by.map(() => 0);
  for (const byte of data) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    by.forEach((each, at) => (rest[at] ^= product(each, factor)));
  }
  return rest;
}

function interleaved(version, data) {
  const [count, checks] = [BLOCKS[version - 1], CHECK_BYTES[version - 1]];
  const short = Math.floor(data.length / count);
  const firstLong = count - (data.length % count);
  const by = divisor(checks);
  const blocks = [];
  for (let at = 0, block = 0; block < count; block += 1) {
    const length = short + (block >= firstLong ? 1 : 0);
    blocks.push(data.slice(at, (at += length)));
  }
  const columns = (parts, length) => Array.from({ length }, (_, at) => parts.map((part) => part[at])).flat();
  return [...columns(blocks, short + 1), ...columns(blocks.map((block) => checkBytes(block, by)), checks)].filter((byte) => byte !== undefined);
}

// --- Where the modules are ---

/** The patterns that carry no data: 0 or 1; null where data goes. */
function functionModules(version) {
  const size = version * 4 + 17;
  const grid = Array.from({ length: size }, () => Array(size).fill(null));
  const set = (x, y, dark) => {
    if (x >= 0 && y >= 0 && x < size && y < size) grid[y][x] = dark ? 1 : 0;
  };
  for (let at = 0; at < size; at += 1) {
    set(6, at, at % 2 === 0);
    set(at, 6, at % 2 === 0);
  }
  const rings = (cx, cy, reach, isDark) => {
    for (let y = -reach; y <= reach; y += 1) for (let x = -reach; x <= reach; x += 1) set(cx + x, cy + y, isDark(Math.max(Math.abs(x), Math.abs(y))));
  };
  const marks = markPlaces(version, size);
  for (const x of marks) {
    for (const y of marks) {
      const atCorner = (x === 6 && y === 6) || (x === 6 && y === size - 7) || (x === size - 7 && y === 6);
      if (!atCorner) rings(x, y, 2, (ring) => ring !== 1);
    }
  }
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) rings(x, y, 4, (ring) => ring !== 2 && ring !== 4);
  drawFormat(size, set);
  if (version >= 7) drawVersion(version, size, set);
  return grid;
}

function markPlaces(version, size) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = version === 32 ? 26 : Math.ceil((size - 13) / (count * 2 - 2)) * 2;
  return [6, ...Array.from({ length: count - 1 }, (_, at) => size - 7 - at * step).reverse()];
}

function remainder(value, bits, by) {
  let rest = value;
  for (let step = 0; step < bits; step += 1) rest = (rest << 1) ^ ((rest >>> (bits - 1)) * by);
  return rest;
}

function drawFormat(size, set) {
  const bits = ((LEVEL_AND_MASK << 10) | remainder(LEVEL_AND_MASK, 10, 0x537)) ^ 0x5412;
  const bit = (at) => (bits >>> at) & 1;
  for (let at = 0; at <= 5; at += 1) set(8, at, bit(at));
  set(8, 7, bit(6));
  set(8, 8, bit(7));
  set(7, 8, bit(8));
  for (let at = 9; at < 15; at += 1) set(14 - at, 8, bit(at));
  for (let at = 0; at < 8; at += 1) set(size - 1 - at, 8, bit(at));
  for (let at = 8; at < 15; at += 1) set(8, size - 15 + at, bit(at));
  set(8, size - 8, 1);
}

function drawVersion(version, size, set) {
  const bits = (version << 12) | remainder(version, 12, 0x1f25);
  for (let at = 0; at < 18; at += 1) {
    const [far, near] = [size - 11 + (at % 3), Math.floor(at / 3)];
    set(far, near, (bits >>> at) & 1);
    set(near, far, (bits >>> at) & 1);
  }
}

/** In columns of two from the right, up and down by turns, over the column of timing; every other module turned. */
function fill(grid, bytes) {
  const size = grid.length;
  let at = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step += 1) {
      const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (grid[y][x] !== null) continue;
        const bit = at < bytes.length * 8 ? (bytes[at >>> 3] >>> (7 - (at & 7))) & 1 : 0;
        grid[y][x] = bit ^ ((x + y) % 2 === 0 ? 1 : 0);
        at += 1;
      }
    }
  }
}
