/** Which variants are worth a look: none other is faster and loses less. Pure. */

export interface Point {
  name: string;
  /** Times as fast as the version it was made of. */
  speed: number;
  /** What is lost of the metric. */
  drop: number;
  upper: number | null;
  size: number | null;
}

export function front(points: Point[]): Set<string> {
  const better = (one: Point, other: Point) =>
    one.speed >= other.speed && one.drop <= other.drop && (one.speed > other.speed || one.drop < other.drop);
  return new Set(points.filter((one) => !points.some((other) => better(other, one))).map((one) => one.name));
}

function numberIn(of: unknown, ...path: string[]): number | null {
  let now: unknown = of;
  for (const name of path) now = typeof now === "object" && now !== null ? (now as Record<string, unknown>)[name] : undefined;
  return typeof now === "number" && Number.isFinite(now) ? now : null;
}

/** A variant as a point; null where it was not measured. */
export function pointOf(name: string, facts: unknown): Point | null {
  const speed = numberIn(facts, "speed");
  const drop = numberIn(facts, "verdict", "drop");
  if (speed === null || drop === null) return null;
  return { name, speed, drop, upper: numberIn(facts, "verdict", "upper"), size: numberIn(facts, "size") };
}

/** Names and values of whatever was stored, one a line; at most `limit`. */
export function spread(of: unknown, limit = 60, path = ""): [string, string][] {
  if (Array.isArray(of) && of.every((one) => typeof one !== "object")) return [[path, of.join(", ")]];
  if (typeof of !== "object" || of === null) return [[path, of === null || of === undefined ? "–" : String(of)]];
  return Object.entries(of)
    .flatMap(([name, value]) => spread(value, limit, path ? `${path}.${name}` : name))
    .slice(0, limit);
}
