/** A plot over time, drawn by uPlot in the colours of the page. */

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { language } from "./words.js";

/**
 * @typedef {object} Line
 * @property {string} name
 * @property {(number | null)[]} values
 * @property {string} colour a custom property of the style sheet, e.g. "--plot-1"
 * @property {boolean} [bars]
 * @property {boolean} [dashed]
 */

/** Loaded by index.html before any module. */
const uPlot = globalThis["uPlot"];

const HEIGHT = 190;
const HEADROOM = 1.08;
const DAY = 86400;

/**
 * @param {object} props
 * @param {string} props.title
 * @param {string} props.says the plot in a sentence, for those who do not see it
 * @param {number[]} props.at seconds since 1970
 * @param {number} props.since where the plot begins
 * @param {number} props.until
 * @param {Line[]} props.lines
 * @param {(value: number) => string} props.show a value as people read it
 * @param {number} [props.top] of the scale, where it is known
 * @param {{at: number}[]} [props.marks] moments to draw a line at
 */
export function Plot({ title, says, at, since, until, lines, show, top, marks = [] }) {
  const place = useRef(null);
  const themed = useTheme();
  useEffect(() => {
    const options = optionsOf({ since, until, lines, show, top, marks });
    const plot = new uPlot(
      { ...options, width: place.current.clientWidth },
      [at, ...lines.map((line) => line.values)],
      place.current,
    );
    const size = new ResizeObserver(([{ contentRect }]) =>
      plot.setSize({ width: contentRect.width, height: HEIGHT }),
    );
    size.observe(place.current);
    return () => {
      size.disconnect();
      plot.destroy();
    };
  }, [at, lines, marks, themed, language()]);
  return html`
    <figure class="card plot">
      <figcaption><h2>${title}</h2></figcaption>
      <div role="img" aria-label=${says} ref=${place}></div>
    </figure>
  `;
}

/** A custom property as a canvas understands it: of this theme. @param {string} name */
function colour(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function optionsOf({ since, until, lines, show, top, marks }) {
  const axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui",
  };
  return {
    height: HEIGHT,
    cursor: { sync: { key: "monitor" }, y: false, drag: { x: false, y: false } },
    scales: {
      x: { time: true, range: [since, until] },
      y: { range: (_, __, most) => [0, top ?? Math.max(most * HEADROOM, 1e-6)] },
    },
    axes: [
      {
        ...axis,
        size: 32,
        grid: { show: false },
        values: (_, ticks) => ticks.map((tick) => moment(tick, until - since)),
      },
      { ...axis, size: 56, values: (_, ticks) => ticks.map(show) },
    ],
    series: [clockOf(), ...lines.map((line) => series(line, show))],
    hooks: { draw: [(plot) => drawMarks(plot, marks)] },
  };
}

/** @param {number} at @param {number} span seconds that the plot covers */
const moment = (at, span) =>
  new Intl.DateTimeFormat(
    language() === "zh" ? "zh-CN" : "en",
    span > 2 * DAY
      ? { month: "short", day: "numeric" }
      : { hour: "2-digit", minute: "2-digit", hour12: false },
  ).format(at * 1000);

const clockOf = () => ({ label: "", value: (_, at) => (at === null ? "" : moment(at, 0)) });

/** @param {Line} line @param {(value: number) => string} show */
const series = ({ name, colour: property, bars, dashed }, show) => ({
  label: name,
  stroke: colour(property),
  width: 2,
  // A value between two gaps makes no line: each is a point, too.
  points: { show: !bars && !dashed, size: 4, fill: colour(property), width: 1 },
  ...(bars && { fill: colour(property), width: 0, paths: uPlot.paths.bars({ size: [0.7, 40] }) }),
  ...(dashed && { dash: [6, 5] }),
  value: (_, value) => (value === null || value === undefined ? "" : show(value)),
});

function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = colour("--edge");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4, 4]);
  for (const { at } of marks) {
    const x = plot.valToPos(at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** A number that changes when the page's colours do. */
function useTheme() {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const changed = () => setTurn((n) => n + 1);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", changed);
    document.addEventListener("moodal:theme", changed);
    return () => {
      system.removeEventListener("change", changed);
      document.removeEventListener("moodal:theme", changed);
    };
  }, []);
  return turn;
}
