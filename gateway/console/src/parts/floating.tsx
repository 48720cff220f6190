// What floats above a page: the result of one's own act, and the two dialogs there are.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { toast, tell, undo } from "../act";
import { UndoIcon } from "./marks";

export function ToastPlace() {
  const told = toast.value;
  return (
    <div class="docked" role="status">
      {told && (
        <div class="toast">
          <span><b>{told.head}</b> {told.text}</span>
          {told.undo && (
            <button class="btn" type="button" onClick={() => told.undo && void undo(told.undo.experiment, told.undo.revision)}><UndoIcon />Undo</button>
          )}
          {told.kind === "failed" && <button class="btn" type="button" onClick={() => tell(null)}>Close</button>}
        </div>
      )}
    </div>
  );
}

/** A dialog that holds the focus and gives it back; Esc closes it. */
export function Dialog({ title, onClose, children, alert = false }: { title: string; onClose: () => void; children: ComponentChildren; alert?: boolean }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    box.current?.showModal();
    return () => before?.focus();
  }, []);
  return (
    <dialog
      ref={box}
      role={alert ? "alertdialog" : "dialog"}
      aria-labelledby="dialog-title"
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <div class="dlg">
        <h2 id="dialog-title">{title}</h2>
        {children}
      </div>
    </dialog>
  );
}
