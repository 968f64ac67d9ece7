import { Head } from "../ui";
import type { Place } from "../router";

export function Audit(_: { place: Place }) {
  return <Head title="Audit" />;
}
