/** Keys that work everywhere but where somebody types. */

import { PAGES } from "./nav";
import { go, to } from "./router";
import { nextTheme, setTheme } from "./theme";

const PATIENCE_MS = 1500;

export function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

export function listenToKeys(help: () => void): () => void {
  let led = 0;
  const press = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const leads = performance.now() - led < PATIENCE_MS && led > 0;
    led = 0;
    if (leads) {
      const entry = PAGES.find((one) => one.key === event.key);
      if (entry) go(to(entry.page));
      return;
    }
    if (event.key === "g") led = performance.now();
    else if (event.key === "?") help();
    else if (event.key === "t") setTheme(nextTheme());
    else if (event.key === "/") {
      event.preventDefault();
      document.getElementById("search")?.focus();
    }
  };
  document.addEventListener("keydown", press);
  return () => document.removeEventListener("keydown", press);
}
