// The scheme, before anything is drawn: what the person chose, else what the system says (by CSS).
try {
  const kept = localStorage.getItem("weir-scheme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.scheme = kept;
} catch {
  // No storage: the system's scheme it is.
}
