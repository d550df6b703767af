// Charts, by uPlot, of what a panel's JSON has:
//   <div class="chart" data-chart="/dashboard/panels/NAME.json" data-path="series" data-lines="accepted failed"
//        data-titles="Accepted|Failed" data-unit="usd|count|seconds|percent" data-label="What it shows"></div>
// `data-path` leads to columns in the document: {"at": [s since the epoch…], "accepted": […], "failed": […]}.
// Colours are the page's own variables; each line has a dash of its own too.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const HEIGHT = 180;
  const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3], [1, 5], [12, 4]];
  const charts = new Map();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = {
    count: (v) => (v == null ? "–" : v.toLocaleString("en", { maximumFractionDigits: 2 })),
    usd: (v) => (v == null ? "–" : `$${v.toLocaleString("en", { maximumFractionDigits: 4 })}`),
    seconds: (v) => (v == null ? "–" : `${v.toLocaleString("en", { maximumFractionDigits: 2 })} s`),
    percent: (v) => (v == null ? "–" : `${(v * 100).toLocaleString("en", { maximumFractionDigits: 1 })} %`),
  };

  const clock = (at, to) => (at == null ? "–" : new Date(at * 1000).toISOString().slice(11, to)); // UTC, as all of the page

  function options(element) {
    const text = shown[element.dataset.unit || "count"];
    const titles = (element.dataset.titles || element.dataset.lines.replaceAll(" ", "|")).split("|");
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line-soft"), width: 1 }, ticks: { show: false } };
    return {
      width: element.clientWidth,
      height: HEIGHT,
      cursor: { y: false },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((at) => clock(at, 16)) }, { ...axis, size: 64, values: (_, ticks) => ticks.map(text) }],
      scales: { y: { range: (_, low, high) => [Math.min(0, low), high > low ? high * 1.1 : 1] } },
      series: [
        { label: "Time (UTC)", value: (_, at) => clock(at, 19) },
        ...titles.map((label, index) => ({
          label,
          stroke: css(`--series-${(index % 6) + 1}`),
          dash: DASHES[index % DASHES.length],
          width: 1.5,
          points: { show: false },
          value: (_, v) => text(v),
        })),
      ],
    };
  }

  async function data(element) {
    const answer = await fetch(element.dataset.chart, { credentials: "same-origin" });
    if (!answer.ok) return null;
    let found = await answer.json();
    for (const part of (element.dataset.path || "").split(".").filter(Boolean)) found = found[part];
    return [found.at, ...element.dataset.lines.split(" ").map((name) => found[name])];
  }

  async function draw(element) {
    // Where the hub does not answer the chart stays as it is: the panels beside it say so.
    const columns = await data(element).catch(() => null);
    if (!columns || !element.isConnected) return;
    const before = charts.get(element);
    if (before) before.setData(columns);
    else {
      element.setAttribute("role", "img");
      element.setAttribute("aria-label", element.dataset.label || "Chart");
      charts.set(element, new uPlot(options(element), columns, element));
    }
  }

  function again(element) {
    charts.get(element)?.destroy();
    charts.delete(element);
    void draw(element);
  }

  function all() {
    for (const element of charts.keys()) if (!element.isConnected) charts.delete(element);
    if (document.visibilityState !== "visible") return;
    for (const element of document.querySelectorAll("[data-chart]")) void draw(element);
  }

  document.addEventListener("chimera:theme", () => [...charts.keys()].forEach(again));
  new ResizeObserver(() => {
    for (const [element, chart] of charts) {
      if (element.clientWidth && chart.width !== element.clientWidth) chart.setSize({ width: element.clientWidth, height: HEIGHT });
    }
  }).observe(document.documentElement);
  setInterval(all, EVERY_MS);
  all();
})();
