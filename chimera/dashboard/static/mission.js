// A mission's page: replay to any moment, and what may be done to the mission.
//   [data-replay] has the controls; the panel `mission-scene` shows a moment, and says which (data-index …).
// The newest moment lives like any panel; one gone by stands still until another is asked for.
"use strict";
(() => {
  const PLAY_MS = 250;
  const PLAYED_IN_MS = 20000; // all of it, however many events
  const root = document.querySelector("[data-replay]");
  const range = root.querySelector("[data-scrub]");
  const play = root.querySelector("[data-play]");
  const said = root.querySelector("[data-replay-said]");
  const panel = () => document.querySelector("#panel-mission-scene");
  const scene = () => panel()?.querySelector(".scene");

  let wanted = null; // the moment asked for: a number of events; null: the newest
  let asked; // the one that is on its way
  let playing = 0;

  const address = (index) => {
    const query = new URLSearchParams({ tenant: root.dataset.tenant, mission: root.dataset.mission });
    if (index !== null) query.set("at", index);
    return `/dashboard/panels/mission-scene?${query}`;
  };

  // One at a time: while one is on its way the reader may ask for ten others, and only the last is fetched.
  async function show(index) {
    wanted = index;
    if (asked !== undefined) return;
    try {
      do {
        asked = wanted;
        const answer = await fetch(address(asked));
        if (answer.status === 401) return location.reload();
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        const part = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("section");
        panel().replaceWith(part);
        window.htmx.process(part);
        follow();
      } while (asked !== wanted);
    } catch (error) {
      window.chimeraNote(`This moment could not be shown (${error.message}): try again.`);
      stop();
    } finally {
      asked = undefined;
    }
  }

  // The controls, the playheads and the address follow what is shown.
  function follow() {
    const at = scene();
    if (!at) return;
    const { index, events, share, shows } = at.dataset;
    const live = shows === "live";
    range.max = events;
    range.disabled = events === "0";
    if (live || document.activeElement !== range || playing) range.value = index;
    range.setAttribute("aria-valuetext", at.dataset.said);
    if (said.textContent !== at.dataset.said) said.textContent = at.dataset.said;
    place(live ? null : share);
    const here = new URL(location.href);
    if (live) here.searchParams.delete("at");
    else here.searchParams.set("at", index);
    if (here.href !== location.href) history.replaceState(null, "", here);
  }

  function place(share) {
    for (const line of document.querySelectorAll(".lanes .playhead")) {
      const x = share === null ? "100%" : `${(100 * share).toFixed(2)}%`;
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.classList.toggle("unseen", share === null);
    }
  }

  const last = () => Number(scene()?.dataset.events || 0);
  const current = () => (wanted === null ? Number(scene()?.dataset.index || 0) : wanted);
  const to = (index) => {
    const bounded = Math.max(0, Math.min(last(), index));
    range.value = bounded;
    show(bounded);
  };

  function stop() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  function toggle() {
    if (playing) return stop();
    if (current() >= last()) to(0);
    const step = Math.max(1, Math.round((last() * PLAY_MS) / PLAYED_IN_MS));
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    playing = setInterval(() => {
      if (document.visibilityState !== "visible" || asked !== undefined) return;
      if (current() >= last()) return stop();
      to(current() + step);
    }, PLAY_MS);
  }

  function newest() {
    stop();
    show(null);
  }

  range.addEventListener("input", () => {
    stop();
    show(Number(range.value));
  });
  play.addEventListener("click", toggle);
  root.querySelector("[data-live-again]").addEventListener("click", newest);
  for (const button of root.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      stop();
      to(button.dataset.step === "first" ? 0 : current() + Number(button.dataset.step));
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target !== range && event.target.closest?.("input, select, textarea")) return;
    const acts = { p: toggle, l: newest, "[": () => to(current() - 1), "]": () => to(current() + 1) };
    if (!Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    if (event.key !== "p") stop();
    acts[event.key]();
  });

  // What is shown after a look of the panel by itself.
  document.addEventListener("htmx:after:swap", follow);

  // Acts: a dialog asks first; once it is done every panel looks again.
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) {
      const dialog = document.getElementById(opener.dataset.opens);
      dialog.showModal();
    }
    event.target.closest("[data-close]")?.closest("dialog").close();
  });
  document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    const form = ctx.sourceElement?.closest?.("form[data-act]");
    if (!form) return;
    form.closest("dialog").close(); // what went wrong is said beside it
    if (ctx.response.status >= 400) return;
    form.reset();
    for (const one of document.querySelectorAll("[data-panel]")) {
      one.removeAttribute("data-still");
      one.dispatchEvent(new Event("tick"));
    }
    if (wanted !== null) newest();
  });

  if (root.dataset.at) wanted = Number(root.dataset.at);
  follow();
})();
