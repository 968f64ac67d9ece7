import { Head } from "../ui";
import type { Place } from "../router";

export function Registry(_: { place: Place }) {
  return <Head title="Registry" />;
}
