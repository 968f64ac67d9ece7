import { requery, type Place } from "./router";
import { Choice } from "./ui";

export const SPANS: (readonly [number, string])[] = [
  [300, "5 minutes"],
  [3600, "1 hour"],
  [21600, "6 hours"],
  [86400, "1 day"],
  [604800, "7 days"],
  [2592000, "30 days"],
];

/** How far back: in the address, so that a link shows the same. */
export function spanOf(place: Place): number {
  const said = Number(place.query.get("span"));
  return SPANS.some(([span]) => span === said) ? said : 300;
}

export function Span({ place }: { place: Place }) {
  return <Choice<number> label="Time" value={spanOf(place)} options={SPANS} onChange={(span) => requery({ span: String(span) })} />;
}
