// Where in the console somebody is: the address says it, so that links can be kept and passed on.
import { computed, signal } from "@preact/signals";

function here(): string {
  return location.pathname + location.search;
}

export const address = signal(here());
export const path = computed(() => address.value.split("?")[0] ?? "/");
export const query = computed(() => new URLSearchParams(address.value.split("?")[1] ?? ""));

/** Goes to another place. `replace`: it is the same place in another state, so going back skips it. */
export function go(to: string, replace = false): void {
  if (to === here()) return;
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  address.value = here();
  if (!replace) scrollTo(0, 0);
}

/** Links within the console are followed without loading it again. */
export function begin(): void {
  addEventListener("popstate", () => {
    address.value = here();
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest("a");
    if (!link || link.target !== "" || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname === location.pathname && link.hash !== "") return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
