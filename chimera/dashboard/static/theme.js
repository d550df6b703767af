// Light or dark, before anything is drawn: as the reader chose here, else as their system has it.
"use strict";
(() => {
  const KEY = "chimera-theme";
  const root = document.documentElement;
  const chosen = localStorage.getItem(KEY);
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const dark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  window.chimeraTheme = {
    dark,
    toggle() {
      root.dataset.theme = dark() ? "light" : "dark";
      localStorage.setItem(KEY, root.dataset.theme);
      document.dispatchEvent(new CustomEvent("chimera:theme"));
    },
  };
})();
