// Keys of the inbox (j, k, Enter) and of a review (j, k, a, r, Enter, Esc, u). No single key decides anything: a and r
// choose, Enter sends. Without this script, links and buttons do the same.
"use strict";
(() => {
  const writes = (element) => element.closest?.("input, select, textarea, [contenteditable]");
  const form = document.querySelector("[data-answer]");
  const comment = form?.querySelector("textarea");
  const hint = form?.querySelector("[data-hint]");
  let chosen = "";

  const button = (choice) => form?.querySelector(`[data-choice="${choice}"]`);
  const say = (text) => { if (hint && hint.textContent !== text) hint.textContent = text; };

  function choose(choice) {
    if (!button(choice) || form.hidden) return;
    chosen = choice;
    for (const one of form.querySelectorAll("[data-choice]")) one.toggleAttribute("data-chosen", one.dataset.choice === choice);
    if (choice === "reject") {
      comment.focus();
      say("Enter rejects with this comment, Shift Enter begins a new line, Esc leaves it");
    } else {
      button(choice).focus();
      say("Enter approves, Esc leaves it");
    }
  }

  function leave() {
    chosen = "";
    for (const one of form.querySelectorAll("[data-choice]")) one.removeAttribute("data-chosen");
    say("");
    document.activeElement?.blur();
  }

  // Rows of the inbox: the one that has the focus is where one is.
  function step(by) {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const here = rows.indexOf(document.activeElement?.closest?.("[data-row]"));
    const next = here < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(here + by, 0), rows.length - 1);
    rows[next].focus();
    rows[next].scrollIntoView({ block: "nearest" });
  }

  function go(key) {
    const link = document.querySelector(`[data-go="${key}"]`);
    if (link) link.click();
  }

  const inbox = Boolean(document.querySelector("[data-inbox]"));
  const acts = inbox
    ? { j: () => step(1), k: () => step(-1) }
    : { j: () => go("j"), k: () => go("k"), u: () => go("u"), a: () => choose("approve"), r: () => choose("reject") };

  // A `g` and then a letter leads to a page (keys.js): that letter is not ours.
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (form && event.key === "Escape") return leave();
    if (event.target === comment && event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit(button(chosen || "reject"));
      return;
    }
    if (writes(event.target)) return;
    const after = Date.now() - going < 1500;
    going = event.key === "g" ? Date.now() : 0;
    if (after || event.repeat || !Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    acts[event.key]();
  });

  // Sent once: a second press changes nothing, and says nothing else.
  form?.addEventListener("submit", () => {
    for (const one of form.querySelectorAll("button")) setTimeout(() => { one.disabled = true; });
  });
  addEventListener("pageshow", () => {
    for (const one of form?.querySelectorAll("button") || []) one.disabled = false;
  });

  // While it is open another may answer: then there is nothing left to send.
  function answered() {
    if (!form || form.hidden || !document.querySelector("[data-decided]")) return;
    form.hidden = true;
    document.querySelector("[data-go='j']")?.focus();
  }
  document.addEventListener("htmx:after:swap", answered);
  answered();
})();
