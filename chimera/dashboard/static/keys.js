// Keys: `g` and a page's letter, `/` to filter, `t` for light or dark, `?` for the list of them.
"use strict";
(() => {
  const PATIENCE_MS = 1500;
  const help = document.querySelector("#help");
  let going = 0;

  const writes = (element) => element.closest?.("input, select, textarea, [contenteditable]");

  const acts = {
    "?": () => help.showModal(),
    t: () => window.chimeraTheme.toggle(),
    "/": () => document.querySelector("input[data-filter]")?.focus(),
    g: () => { going = Date.now(); },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target) || help.open) return;
    if (Date.now() - going < PATIENCE_MS) {
      going = 0;
      const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) {
        event.preventDefault();
        link.click();
        return;
      }
    }
    if (Object.hasOwn(acts, event.key)) {
      event.preventDefault();
      acts[event.key]();
    }
  });

  document.querySelector("[data-help]").addEventListener("click", acts["?"]);
  document.querySelector("[data-theme-toggle]").addEventListener("click", acts.t);
})();
