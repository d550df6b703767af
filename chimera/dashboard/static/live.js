// What makes pages live: a tick a second for each panel while the page is seen, the token that goes with whatever
// changes something, and a word where the hub does not answer.
"use strict";
(() => {
  const TICK_MS = 1000;
  const token = document.querySelector('meta[name="csrf"]').content;
  const live = document.querySelector("[data-live]");
  const notes = document.querySelector("[data-notes]");
  const silent = new Set(); // panels that got no answer when they asked last
  let leaving = false;
  const clock = () => new Date().toISOString().slice(11, 19);

  // What says that nothing of it changes any more is left alone.
  const panels = () => document.querySelectorAll("[data-panel]:not([data-still])");
  const panelOf = (context) => context.sourceElement?.closest?.("[data-panel]");

  function tick() {
    if (leaving || document.visibilityState !== "visible") return;
    for (const panel of panels()) panel.dispatchEvent(new Event("tick"));
  }
  setInterval(tick, TICK_MS);
  document.addEventListener("visibilitychange", tick);

  document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
    const headers = ctx.request.headers;
    if (ctx.request.method !== "GET") headers["X-CSRF-Token"] = token;
    else if (ctx.sourceElement.dataset.tag) headers["If-None-Match"] = `"${ctx.sourceElement.dataset.tag}"`;
  });

  // An answer came: what it shows is as of now.
  function fresh(panel) {
    const stale = panel.querySelector("[data-stale]");
    if (stale && !stale.hidden) {
      stale.hidden = true;
      stale.textContent = "";
    }
    panel.dataset.seen = Date.now();
    delete panel.dataset.failed;
  }

  function failed(panel, why) {
    const stale = panel.querySelector("[data-stale]");
    if (!stale || panel.dataset.failed) return;
    panel.dataset.failed = "1";
    stale.textContent = `not updated since ${clock()}: ${why}`;
    stale.hidden = false;
  }

  document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    const status = ctx.response.status;
    if (status === 401) {
      // Every panel hears so: it is gone once, for going again would cut the first short.
      if (leaving) return;
      leaving = true;
      location.assign(`/dashboard/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    const panel = panelOf(ctx);
    if (status < 400) {
      if (panel) fresh(panel);
      silent.delete(panel?.dataset.panel);
      if (live.dataset.away && !silent.size) {
        delete live.dataset.away;
        live.textContent = "Live: every second";
      }
      return;
    }
    const said = problem(ctx.text) || `status ${status}`;
    if (panel && ctx.request.method === "GET") failed(panel, said);
    else note(said);
  });

  document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
    const panel = ctx && panelOf(ctx);
    if (panel) silent.add(panel.dataset.panel);
    if (!live.dataset.away) {
      live.dataset.away = "1";
      live.textContent = `The hub does not answer since ${clock()}`;
    }
    if (panel && ctx.request.method === "GET") failed(panel, "no answer");
    else note("The hub did not answer: nothing is known of what was asked. Look, and try again.");
  });

  function problem(text) {
    try {
      const said = JSON.parse(text);
      return [said.detail, ...(said.problems || [])].join(" ");
    } catch {
      return "";
    }
  }

  function note(text) {
    const line = document.createElement("div");
    line.className = "note";
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "quiet";
    close.textContent = "Close";
    close.addEventListener("click", () => line.remove());
    line.append(words, close);
    notes.replaceChildren(line);
  }
  window.chimeraNote = note;

  // Instants in UTC, as limits and logs have them; of today the time alone. The title has the reader's own.
  function shorten(root) {
    const today = new Date().toISOString().slice(0, 10);
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      const [day, clock] = at.toISOString().slice(0, 19).split("T");
      time.title = `UTC; ${at.toLocaleString([], { hour12: false, timeZoneName: "short" })}`;
      time.textContent = day === today ? clock : `${day} ${clock}`;
    }
  }
  document.addEventListener("htmx:after:swap", ({ target }) => shorten(target.parentNode || document));
  shorten(document);

  const whose = document.querySelector("#whose");
  whose?.addEventListener("change", () => whose.form.requestSubmit());
  document.documentElement.classList.add("scripted");
})();
