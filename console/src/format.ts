/** Numbers and times as people read them. What is not known is a dash, never zero. */

export type Maybe = number | null | undefined;

export const UNKNOWN = "–";

function known(value: Maybe): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function digits(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.01) return value.toFixed(2);
  return value.toPrecision(2);
}

export function number(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9)} G`;
  if (size >= 1e6) return `${digits(value / 1e6)} M`;
  if (size >= 1e4) return `${digits(value / 1e3)} k`;
  return digits(value);
}

export function count(value: Maybe): string {
  return known(value) ? Math.round(value).toLocaleString("en-US") : UNKNOWN;
}

export function rate(value: Maybe): string {
  return known(value) ? `${number(value)}/s` : UNKNOWN;
}

export function seconds(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  if (size < 7200) return `${digits(value / 60)} min`;
  if (size < 172800) return `${digits(value / 3600)} h`;
  return `${digits(value / 86400)} d`;
}

export function bytes(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let left = value;
  while (Math.abs(left) >= 1000 && at < units.length - 1) {
    left /= 1000;
    at += 1;
  }
  return at === 0 ? `${left.toFixed(0)} B` : `${digits(left)} ${units[at]}`;
}

export function percent(value: Maybe): string {
  if (!known(value)) return UNKNOWN;
  const shown = value * 100;
  if (shown > 99 && shown < 100) return `${Number(shown.toFixed(3))}%`;
  return `${digits(shown)}%`;
}

export function when(at_ms: Maybe): string {
  if (!known(at_ms)) return UNKNOWN;
  const at = new Date(at_ms);
  const pad = (part: number) => String(part).padStart(2, "0");
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

export function ago(at_ms: Maybe, now_ms: number): string {
  return known(at_ms) ? `${seconds(Math.max(0, Math.round((now_ms - at_ms) / 1000)))} ago` : UNKNOWN;
}

export function ns(at_ns: Maybe): number | null {
  return known(at_ns) ? at_ns / 1e6 : null;
}
