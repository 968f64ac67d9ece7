/** Dark, light or as the system wants; charts read their colours from here. */

import { useEffect, useState } from "preact/hooks";

export type Theme = "auto" | "light" | "dark";

const KEY = "taxiway.theme";
const listeners = new Set<() => void>();
const system = () => window.matchMedia("(prefers-color-scheme: dark)");

export function theme(): Theme {
  try {
    const said = localStorage.getItem(KEY);
    return said === "light" || said === "dark" ? said : "auto";
  } catch {
    return "auto";
  }
}

function show(): void {
  const now = theme();
  if (now === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = now;
  for (const one of listeners) one();
}

export function setTheme(next: Theme): void {
  try {
    if (next === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    document.documentElement.dataset.theme = next;
  }
  show();
}

export function nextTheme(): Theme {
  const dark = theme() === "dark" || (theme() === "auto" && system().matches);
  return dark ? "light" : "dark";
}

export function startTheme(): void {
  show();
  system().addEventListener("change", show);
}

export interface Palette {
  text: string;
  muted: string;
  line: string;
  panel: string;
  good: string;
  warn: string;
  bad: string;
  accent: string;
  series: string[];
}

export function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: colour("text"),
    muted: colour("muted"),
    line: colour("line"),
    panel: colour("panel"),
    good: colour("good"),
    warn: colour("warn"),
    bad: colour("bad"),
    accent: colour("accent"),
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((at) => colour(`series-${at}`)),
  };
}

export function usePalette(): Palette {
  const [now, setNow] = useState(palette);
  useEffect(() => {
    const look = () => setNow(palette());
    listeners.add(look);
    return () => {
      listeners.delete(look);
    };
  }, []);
  return now;
}
