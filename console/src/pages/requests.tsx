import { Head } from "../ui";
import type { Place } from "../router";

export function Requests(_: { place: Place }) {
  return <Head title="Requests" />;
}
