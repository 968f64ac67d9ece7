import { Head } from "../ui";
import type { Place } from "../router";

export function Reports(_: { place: Place }) {
  return <Head title="Reports" />;
}
