// Tables that the reader sorts and filters. Rows come anew every second: they are put in order again as they come.
//   <table data-sortable id="…"> with <th><button data-sort="number|text">, cells with data-value where text is not it
//   <input data-filter="#table">
"use strict";
(() => {
  const chosen = new Map(); // table's id → {column, down, filter}
  const of = (table) => {
    if (!chosen.has(table.id)) chosen.set(table.id, JSON.parse(sessionStorage.getItem(`table ${table.id}`) || "{}"));
    return chosen.get(table.id);
  };
  const keep = (table) => sessionStorage.setItem(`table ${table.id}`, JSON.stringify(of(table)));

  const value = (row, column, kind) => {
    const cell = row.cells[column];
    const said = cell.dataset.value ?? cell.textContent.trim();
    return kind === "number" ? Number(said) : said;
  };

  function arrange(table) {
    const choice = of(table);
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (column === choice.column) head.setAttribute("aria-sort", choice.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const kind = heads[choice.column]?.querySelector("[data-sort]")?.dataset.sort;
    if (kind) {
      const before = [...body.rows];
      const sorted = before
        .map((row) => [value(row, choice.column, kind), row])
        .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (choice.down ? -1 : 1))
        .map(([, row]) => row);
      if (sorted.some((row, at) => row !== before[at])) {
        const focused = body.contains(document.activeElement) ? document.activeElement : null;
        body.append(...sorted);
        focused?.focus({ preventScroll: true });
      }
    }
    filter(table);
  }

  function filter(table) {
    const wanted = (of(table).filter || "").trim().toLowerCase();
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = Boolean(wanted) && !row.textContent.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    const said = document.querySelector(`[data-count="#${table.id}"]`);
    if (said) {
      const text = wanted ? `${shown} of ${table.tBodies[0].rows.length}` : `${table.tBodies[0].rows.length}`;
      if (said.textContent !== text) said.textContent = text;
    }
  }

  function arrangeAll() {
    for (const table of document.querySelectorAll("table[data-sortable]")) arrange(table);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-sort]");
    if (!button) return;
    const table = button.closest("table");
    const choice = of(table);
    const column = button.closest("th").cellIndex;
    // Figures are looked at from the largest on, names from the first.
    choice.down = choice.column === column ? !choice.down : button.dataset.sort === "number";
    choice.column = column;
    keep(table);
    arrange(table);
  });

  document.addEventListener("input", (event) => {
    const input = event.target.closest("input[data-filter]");
    if (!input) return;
    const table = document.querySelector(input.dataset.filter);
    of(table).filter = input.value;
    keep(table);
    filter(table);
  });

  document.addEventListener("keydown", (event) => {
    const input = event.target.closest?.("input[data-filter]");
    if (!input || event.key !== "Escape") return;
    input.value = "";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.blur();
  });

  for (const input of document.querySelectorAll("input[data-filter]")) {
    const table = document.querySelector(input.dataset.filter);
    if (table) input.value = of(table).filter || "";
  }
  arrangeAll();
  document.addEventListener("htmx:after:swap", arrangeAll);
})();
