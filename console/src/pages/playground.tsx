import { Head } from "../ui";
import type { Place } from "../router";

export function Playground(_: { place: Place }) {
  return <Head title="Playground" />;
}
