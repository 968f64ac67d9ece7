/** The pages, in the order they are listed in, each with its key after `g`. */

export interface Entry {
  page: string;
  title: string;
  key: string;
  group: string;
}

export const PAGES: Entry[] = [
  { page: "overview", title: "Overview", key: "o", group: "Serve" },
  { page: "models", title: "Models", key: "m", group: "Serve" },
  { page: "rollouts", title: "Rollouts", key: "r", group: "Serve" },
  { page: "playground", title: "Playground", key: "p", group: "Serve" },
  { page: "drift", title: "Drift", key: "d", group: "Watch" },
  { page: "alerts", title: "Alerts", key: "a", group: "Watch" },
  { page: "requests", title: "Slow and failed", key: "s", group: "Watch" },
  { page: "hardware", title: "GPU and host", key: "h", group: "Watch" },
  { page: "registry", title: "Registry", key: "l", group: "Know" },
  { page: "reports", title: "Profiles", key: "e", group: "Know" },
  { page: "audit", title: "Audit", key: "u", group: "Know" },
];

export function titleOf(page: string): string {
  return PAGES.find((one) => one.page === page)?.title ?? "Not found";
}

export interface Found {
  title: string;
  note: string;
  path: string;
}

/** What matches, those that begin with the words first; at most `limit`. */
export function matching(all: Found[], words: string, limit = 8): Found[] {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return all.slice(0, limit);
  const score = (one: Found) => {
    const title = one.title.toLowerCase();
    if (title.startsWith(wanted)) return 0;
    return title.includes(wanted) ? 1 : one.note.toLowerCase().includes(wanted) ? 2 : 3;
  };
  return all
    .map((one) => ({ one, rank: score(one) }))
    .filter(({ rank }) => rank < 3)
    .sort((one, other) => one.rank - other.rank)
    .slice(0, limit)
    .map(({ one }) => one);
}
