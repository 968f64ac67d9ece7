import { Head } from "../ui";
import type { Place } from "../router";

export function Alerts(_: { place: Place }) {
  return <Head title="Alerts" />;
}
