import { Head } from "../ui";
import type { Place } from "../router";

export function Rollouts(_: { place: Place }) {
  return <Head title="Rollouts" />;
}
