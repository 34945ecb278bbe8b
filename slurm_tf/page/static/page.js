// What pages do beyond their HTML: curves and logs that grow, lists that are loaded again. Each page works without it.
"use strict";
(() => {
  const colours = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#9a9a9a"];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const element = (name, text) => Object.assign(document.createElement(name), { textContent: text || "" });

  // --- the state of a run ---

  function showState(known) {
    const state = document.querySelector("[data-live=state]");
    state.textContent = known.state;
    state.className = "state " + known.colour;
    document.querySelector("[data-live=why]").textContent = known.why;
    document.querySelector("dl").replaceChildren(...known.facts.map(([name, text]) => {
      const row = element("div");
      row.append(element("dt", name), element("dd", text));
      return row;
    }));
  }

  // --- curves ---

  const values = new Map(); // metric -> Map(step -> value)
  const plots = new Map(); // metric without "val_" -> {figure, plot}

  function addReports(message) {
    if (message.whole)
      for (const name of [...values.keys()])
        if (message.prefix ? name.startsWith(message.prefix) : !name.startsWith("evaluator_")) values.delete(name);
    for (const [step, metrics] of message.rows)
      for (const [name, value] of Object.entries(metrics)) {
        const metric = message.prefix + name;
        if (!values.has(metric)) values.set(metric, new Map());
        values.get(metric).set(step, value);
      }
    if (values.size) draw();
  }

  function draw() {
    const groups = new Map();
    for (const metric of values.keys()) {
      const name = metric.replace(/^val_/, "");
      groups.set(name, [...(groups.get(name) || []), metric]);
    }
    const box = document.getElementById("live");
    if (!plots.size) box.replaceChildren();
    for (const [name, metrics] of groups) drawGroup(box, name, metrics);
  }

  function drawGroup(box, name, metrics) {
    const steps = [...new Set(metrics.flatMap((each) => [...values.get(each).keys()]))].sort((a, b) => a - b);
    const data = [steps, ...metrics.map((each) => steps.map((step) => values.get(each).get(step) ?? null))];
    let known = plots.get(name);
    if (!known || known.metrics !== metrics.join()) {
      if (known) known.figure.remove();
      const figure = element("figure");
      figure.append(element("figcaption"));
      box.append(figure);
      known = { figure, metrics: metrics.join(), plot: newPlot(figure, metrics, data) };
      plots.set(name, known);
    } else known.plot.setData(data);
    known.figure.firstChild.textContent = metrics.map(lastWords).join(", ");
  }

  function lastWords(metric) {
    const [step, value] = [...values.get(metric)].at(-1);
    return `${metric} ${value === null ? "nan" : Number(value.toPrecision(5))} at step ${step}`;
  }

  function newPlot(figure, metrics, data) {
    // as functions, which are called at each drawing: the colours change with those of the browser
    const soft = () => style("--soft"), line = () => style("--line");
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
    const series = metrics.map((label, n) => ({ label, stroke: colours[n % colours.length], width: 2, spanGaps: true }));
    const options = {
      width: Math.max(240, figure.clientWidth - 4), height: 260,
      scales: { x: { time: false } }, axes: [axis, { ...axis, size: 64 }], series: [{ label: "step" }, ...series],
    };
    return new uPlot(options, data, figure);
  }

  function followRun(box) {
    const source = new EventSource(box.dataset.events);
    source.addEventListener("state", (event) => showState(JSON.parse(event.data)));
    source.addEventListener("reports", (event) => addReports(JSON.parse(event.data)));
    source.addEventListener("over", () => source.close());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const { plot } of plots.values()) plot.redraw(false);
    });
    addEventListener("resize", () => {
      for (const { figure, plot } of plots.values())
        plot.setSize({ width: Math.max(240, figure.clientWidth - 4), height: 260 });
    });
  }

  // --- logs ---

  const mostLines = 5000;

  function followLog(box) {
    const source = new EventSource(box.dataset.events);
    const toEnd = () => { box.scrollTop = box.scrollHeight; };
    source.addEventListener("text", (event) => {
      const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      const lines = (box.textContent + JSON.parse(event.data)).split("\n");
      box.textContent = lines.slice(-mostLines).join("\n");
      if (isAtEnd) toEnd();
    });
    source.addEventListener("over", () => source.close());
    toEnd();
  }

  // --- lists ---

  function reloadOften(box) {
    setInterval(async () => {
      if (document.hidden || box.contains(document.activeElement)) return;
      const answer = await fetch(location.href);
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-refresh]");
      if (fresh) box.replaceChildren(...fresh.childNodes);
    }, box.dataset.refresh * 1000);
  }

  const start = { "#live": followRun, "#log": followLog, "[data-refresh]": reloadOften };
  for (const [selector, act] of Object.entries(start)) {
    const box = document.querySelector(selector);
    if (box) act(box);
  }
})();
