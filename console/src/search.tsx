/** `/`: a model, a rollout, a page. */

import { useId, useState } from "preact/hooks";
import { useLive } from "./live";
import { matching, PAGES, type Found } from "./nav";
import { go, to } from "./router";
import { models } from "./stream";

export function Search() {
  const { told } = useLive();
  const [words, setWords] = useState("");
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(0);
  const id = useId();
  const all: Found[] = [
    ...(told ? models(told).map((one) => ({ title: one, note: "model", path: to("models", one) })) : []),
    ...(told ? told.rollouts.map((one) => ({ title: one.service, note: `rollout ${one.id}`, path: to("rollouts", one.id) })) : []),
    ...PAGES.map((one) => ({ title: one.title, note: "page", path: to(one.page) })),
  ];
  const found = open ? matching(all, words) : [];
  const choose = (one: Found | undefined) => {
    if (!one) return;
    go(one.path);
    setWords("");
    setOpen(false);
    (document.activeElement as HTMLElement | null)?.blur();
  };
  const press = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") setAt(Math.min(at + 1, found.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
    else if (event.key === "Enter") choose(found[at]);
    else if (event.key === "Escape") {
      setOpen(false);
      (event.currentTarget as HTMLElement).blur();
    } else return;
    event.preventDefault();
  };
  return (
    <div class="search" role="search">
      <input
        id="search"
        type="text"
        role="combobox"
        aria-label="Search models, rollouts and pages"
        aria-expanded={found.length > 0}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={found.length ? `${id}-${at}` : undefined}
        autocomplete="off"
        placeholder="Search   /"
        value={words}
        onInput={(event) => {
          setWords(event.currentTarget.value);
          setAt(0);
          setOpen(true);
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => window.setTimeout(() => setOpen(false), 150)}
        onKeyDown={press}
      />
      <ul id={`${id}-list`} role="listbox" aria-label="Found" hidden={!found.length}>
        {found.map((one, place) => (
          <li key={one.path} id={`${id}-${place}`} role="option" aria-selected={place === at} onPointerDown={() => choose(one)}>
            <span>{one.title}</span>
            <small>{one.note}</small>
          </li>
        ))}
      </ul>
    </div>
  );
}
