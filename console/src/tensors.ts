/** A request of v2 from what a person typed; pure. */

export interface Tensor {
  name: string;
  datatype: string;
  shape: number[];
}

export type Datum = number | string | boolean;

export interface Input {
  name: string;
  shape: number[];
  datatype: string;
  data: Datum[];
}

export interface ImageLayout {
  channels: number;
  height: number;
  width: number;
  first: boolean;
}

const SIDE = 224;

/** Variable dimensions become 1; those an image leaves open are 224. */
export function concrete(shape: number[]): number[] {
  return shape.map((size) => (size < 0 ? 1 : size));
}

export function elements(shape: number[]): number {
  return shape.reduce((all, size) => all * size, 1);
}

/** Whether a picture fits: three or four dimensions, of which one is 1, 3 or 4 channels. */
export function imageLayout(tensor: Tensor): ImageLayout | null {
  if (tensor.datatype === "BYTES" || tensor.datatype === "BOOL") return null;
  const own = tensor.shape.length === 4 ? tensor.shape.slice(1) : tensor.shape.length === 3 ? tensor.shape : null;
  if (!own) return null;
  const [one = 0, two = 0, three = 0] = own;
  const colour = (size: number) => size === 1 || size === 3 || size === 4;
  const side = (size: number) => size < 0 || size >= 8;
  const open = (size: number) => (size < 0 ? SIDE : size);
  if (colour(one) && side(two) && side(three)) return { channels: one, height: open(two), width: open(three), first: true };
  if (colour(three) && side(one) && side(two)) return { channels: three, height: open(one), width: open(two), first: false };
  return null;
}

export function imageShape(tensor: Tensor, layout: ImageLayout): number[] {
  const { channels, height, width } = layout;
  const own = layout.first ? [channels, height, width] : [height, width, channels];
  return tensor.shape.length === 4 ? [1, ...own] : own;
}

export type Scale = "255" | "1" | "imagenet";

const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** Numbers of a tensor from RGBA bytes. */
export function pixels(rgba: ArrayLike<number>, layout: ImageLayout, scale: Scale, whole: boolean): number[] {
  const { channels, height, width } = layout;
  const many = height * width;
  const data = new Array<number>(many * channels);
  for (let at = 0; at < many; at += 1) {
    const part = (channel: number) => rgba[at * 4 + channel] ?? 0;
    for (let channel = 0; channel < channels; channel += 1) {
      let value = channels === 1 ? 0.299 * part(0) + 0.587 * part(1) + 0.114 * part(2) : part(channel);
      if (scale !== "255") value /= 255;
      if (scale === "imagenet") value = (value - (MEAN[channel % 3] ?? 0)) / (DEVIATION[channel % 3] ?? 1);
      const place = layout.first ? channel * many + at : at * channels + channel;
      data[place] = whole ? Math.round(value) : Number(value.toFixed(4));
    }
  }
  return data;
}

export function isWhole(datatype: string): boolean {
  return /^U?INT/.test(datatype);
}

function depthOf(value: unknown): number[] {
  return Array.isArray(value) ? [value.length, ...depthOf(value[0])] : [];
}

/** What was typed: JSON, nested or flat, or numbers with commas, spaces and lines between them. Throws words for people. */
export function parsed(tensor: Tensor, text: string): Input {
  const said = text.trim();
  const { name, datatype } = tensor;
  if (datatype === "BYTES") {
    const lists = said.startsWith("[") ? tried(said) : null;
    const data = Array.isArray(lists) ? (lists.flat(Infinity) as unknown[]).map(String) : [text];
    return { name, datatype, data, shape: fitted(tensor, [data.length], data.length) };
  }
  if (!said) throw new Error("say at least one number");
  const value = said.startsWith("[") ? tried(said) : said.split(/[\s,;]+/).filter(Boolean);
  if (!Array.isArray(value)) throw new Error("this is no list that JSON knows");
  const flat = value.flat(Infinity) as unknown[];
  const data = flat.map((one) => datum(one, datatype));
  return { name, datatype, data, shape: fitted(tensor, depthOf(value), data.length) };
}

function tried(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

function datum(value: unknown, datatype: string): Datum {
  if (datatype === "BOOL") {
    if (value === true || value === "true" || value === "1" || value === 1) return true;
    if (value === false || value === "false" || value === "0" || value === 0) return false;
    throw new Error(`${String(value)} is neither true nor false`);
  }
  const number = typeof value === "number" ? value : Number(value);
  if (value === null || value === "" || !Number.isFinite(number)) throw new Error(`${String(value)} is no number`);
  if (isWhole(datatype) && !Number.isInteger(number)) throw new Error(`${String(value)} is not whole, and ${datatype} is`);
  return number;
}

/** The shape as it was written, where that fits; else the open dimensions take what is left. */
export function fitted(tensor: Tensor, written: number[], many: number): number[] {
  const fits = (shape: number[]) =>
    shape.length === tensor.shape.length && shape.every((size, at) => (tensor.shape[at] ?? 0) < 0 || tensor.shape[at] === size);
  if (written.length === tensor.shape.length && fits(written) && elements(written) === many) return written;
  const known = tensor.shape.filter((size) => size >= 0).reduce((all, size) => all * size, 1);
  const open = tensor.shape.filter((size) => size < 0).length;
  if (!open && known === many) return tensor.shape;
  if (!known || many % known) throw new Error(`${many} elements do not fill [${tensor.shape.join(", ")}]`);
  if (!open) throw new Error(`${many} elements do not fill [${tensor.shape.join(", ")}]`);
  const last = tensor.shape.findLastIndex((size) => size < 0);
  return tensor.shape.map((size, at) => (size >= 0 ? size : at === last ? many / known : 1));
}

/** Something to begin with. */
export function example(tensor: Tensor, chance: () => number = () => 0): string {
  const shape = concrete(tensor.shape);
  if (tensor.datatype === "BYTES") return elements(shape) === 1 ? "" : JSON.stringify(new Array(elements(shape)).fill("text"));
  const many = Math.min(elements(shape), 4096);
  const value = () => {
    if (tensor.datatype === "BOOL") return String(chance() > 0.5);
    return isWhole(tensor.datatype) ? String(Math.floor(chance() * 10)) : String(Number(chance().toFixed(3)));
  };
  const flat = Array.from({ length: many }, value);
  const row = shape.at(-1) ?? 1;
  const lines = [];
  for (let at = 0; at < flat.length; at += row) lines.push(flat.slice(at, at + row).join(", "));
  return lines.join("\n");
}

/** As a shell understands it. */
export function curl(address: string, body: string): string {
  return `curl -s '${address}' \\\n  -H 'Content-Type: application/json' \\\n  -H 'X-Taxiway-Console: 1' \\\n  -d '${body.replaceAll("'", "'\\''")}'`;
}
