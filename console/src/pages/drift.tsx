import { Head } from "../ui";
import type { Place } from "../router";

export function Drift(_: { place: Place }) {
  return <Head title="Drift" />;
}
