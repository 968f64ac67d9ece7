/** Addresses below /console/, with the browser's own history. */

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

export const BASE = "/console/";

export interface Place {
  page: string;
  rest: string[];
  query: URLSearchParams;
}

/** `/console/models/fraud?span=300` is page `models`, rest `["fraud"]`. */
export function placeOf(pathname: string, search: string): Place {
  const below = pathname.startsWith(BASE) ? pathname.slice(BASE.length) : "";
  const [page = "", ...rest] = below.split("/").filter(Boolean).map(decoded);
  return { page: page || "overview", rest, query: new URLSearchParams(search) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function to(page: string, ...rest: (string | number)[]): string {
  return BASE + [page === "overview" ? "" : page, ...rest.map((one) => encodeURIComponent(String(one)))].join("/");
}

const moved = new Set<() => void>();

export function go(path: string, replace = false): void {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  for (const one of moved) one();
  if (!replace) window.scrollTo(0, 0);
}

/** Change words of the query where one is, so that what is seen can be passed on as a link. */
export function requery(change: Record<string, string | null>): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(change)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  const said = query.toString();
  go(location.pathname + (said ? `?${said}` : ""), true);
}

export function usePlace(): Place {
  const [place, setPlace] = useState(() => placeOf(location.pathname, location.search));
  useEffect(() => {
    const look = () => setPlace(placeOf(location.pathname, location.search));
    moved.add(look);
    window.addEventListener("popstate", look);
    return () => {
      moved.delete(look);
      window.removeEventListener("popstate", look);
    };
  }, []);
  return place;
}

interface LinkProps extends JSX.HTMLAttributes<HTMLAnchorElement> {
  href: string;
  children: ComponentChildren;
}

export function Link({ href, children, ...others }: LinkProps) {
  const follow = (event: MouseEvent) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(href);
  };
  return (
    <a href={href} onClick={follow} {...others}>
      {children}
    </a>
  );
}
