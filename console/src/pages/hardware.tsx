import { Head } from "../ui";
import type { Place } from "../router";

export function Hardware(_: { place: Place }) {
  return <Head title="Hardware" />;
}
