// Who did what, newest first: a reading of the audit log.
import { signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { ApiFault, get } from "../api";
import type { List } from "../api";
import { useResource } from "../resource";
import { Scroll, Time, Trouble, Waiting } from "../parts/marks";

interface Entry {
  id: number;
  at: string;
  key_id: string;
  actor: string;
  from: string;
  action: string;
  target: string;
  reason: string | null;
  before: unknown;
  after: unknown;
  request_id: string;
}

function shown(value: unknown): string {
  return value === null || value === undefined ? "–" : JSON.stringify(value, null, 1).replace(/\n\s*/g, " ");
}

export function Audit() {
  const held = useResource<List<Entry>>("/audit?limit=100").value;
  const older = useMemo(() => signal<{ items: Entry[]; next: string | null; error: string | null }>({ items: [], next: null, error: null }), []);
  if (!held.data) return <><h1>Audit</h1>{held.error ? <Trouble what="The audit log" message={held.error.message} /> : <Waiting what="the audit log" />}</>;
  const known = new Set(held.data.items.map((entry) => entry.id));
  const all = [...held.data.items, ...older.value.items.filter((entry) => !known.has(entry.id))];
  const next = older.value.items.length > 0 ? older.value.next : held.data.next;
  const more = async () => {
    try {
      const page = await get<List<Entry>>(`/audit?limit=100&cursor=${encodeURIComponent(next ?? "")}`);
      older.value = { items: [...older.value.items, ...page.items], next: page.next, error: null };
    } catch (error) {
      older.value = { ...older.value, error: error instanceof ApiFault ? error.message : "an error in this page" };
    }
  };
  return (
    <>
      <div class="spread base"><h1>Audit</h1><span class="s qq">every change, with who, from where and why</span></div>
      {all.length === 0 && <p class="q">Nothing was changed yet.</p>}
      <Scroll label="Audit log">
        <table class="rows audit">
          <thead><tr><th scope="col">when</th><th scope="col">who</th><th scope="col">from</th><th scope="col">did</th><th scope="col">to</th><th scope="col">why</th></tr></thead>
          <tbody>
            {all.map((entry) => (
              <tr key={entry.id}>
                <td class="nb q"><Time exact at={entry.at} /></td>
                <td><b>{entry.actor}</b></td>
                <td class="q mono">{entry.from === "" ? "–" : entry.from}</td>
                <td>
                  <details><summary>{entry.action}</summary>
                    <dl class="facts"><dt>before</dt><dd class="mono">{shown(entry.before)}</dd><dt>after</dt><dd class="mono">{shown(entry.after)}</dd><dt>call</dt><dd class="mono">{entry.request_id || "–"}</dd></dl>
                  </details>
                </td>
                <td class="mono">{entry.target}</td>
                <td>{entry.reason ? `“${entry.reason}”` : <span class="qq">–</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {older.value.error && <Trouble what="Older entries" message={older.value.error} />}
      {next !== null && <p class="more"><button class="btn" type="button" onClick={() => void more()}>Older entries</button></p>}
    </>
  );
}
