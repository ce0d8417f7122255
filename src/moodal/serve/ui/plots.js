/** Which plots the monitor draws: what each line is, and the plot in a sentence. */

import { duration, labelName, modalityName, number, percent, t } from "./words.js";

const COLOURS = ["--plot-1", "--plot-2", "--plot-3", "--plot-4", "--plot-5", "--plot-6"];

/** A span without an answer. */
const NOTHING = {
  n: 0,
  p50_ms: null,
  p99_ms: null,
  confidence: null,
  abstained: 0,
  labels: {},
  modalities: {},
};

/** @param {object} look as GET /v1/monitor gives it @returns {object[]} props of Plot */
export function plotsOf(look) {
  const { requests, labels, modalities, accuracy, events, since, until } = look;
  const buckets = filled(look);
  const at = buckets.map((bucket) => bucket.at);
  const of = (name) => buckets.map((bucket) => bucket[name]);
  const shares = (name, key) =>
    buckets.map((bucket) => (bucket.n ? (bucket[name][key] ?? 0) / bucket.n : null));
  const families = (name, totals, called) =>
    heaviest(totals).map((key, i) => ({
      name: called(key),
      values: shares(name, key),
      colour: COLOURS[i],
    }));
  const whole = (value) => percent(value, 0);
  const common = { at, since, until, marks: events };
  return [
    {
      ...common,
      title: t("plot.traffic"),
      says: t("plot.trafficSays", { n: number(requests) }),
      show: (n) => number(n),
      lines: [{ name: t("plot.answers"), values: of("n"), colour: "--plot-1", bars: true }],
    },
    {
      ...common,
      title: t("plot.latency"),
      says: t("plot.latencySays", { time: duration(last(of("p50_ms")) ?? 0) }),
      show: duration,
      lines: [
        { name: "p50", values: of("p50_ms"), colour: "--plot-1" },
        { name: "p99", values: of("p99_ms"), colour: "--plot-2" },
      ],
    },
    {
      ...common,
      title: t("plot.labels"),
      says: inWords(labels, labelName),
      show: whole,
      top: 1,
      lines: families("labels", labels, labelName),
    },
    {
      ...common,
      title: t("plot.modalities"),
      says: inWords(modalities, modalityName),
      show: whole,
      top: 1,
      lines: families("modalities", modalities, modalityName),
    },
    {
      ...common,
      title: t("plot.confidence"),
      says: t("plot.confidenceSays", { sure: percent(last(of("confidence")) ?? 0) }),
      show: whole,
      top: 1,
      lines: [
        { name: t("plot.meanConfidence"), values: of("confidence"), colour: "--plot-1" },
        {
          name: t("plot.abstained"),
          values: buckets.map((bucket) => (bucket.n ? bucket.abstained / bucket.n : null)),
          colour: "--plot-2",
        },
        ...(accuracy.feedback === null
          ? []
          : [
              {
                name: t("plot.feedback"),
                values: at.map(() => accuracy.feedback),
                colour: "--plot-3",
                dashed: true,
              },
            ]),
      ],
    },
  ].filter((plot) => plot.lines.length > 0);
}

/** Every span from first to last, those without an answer too. @param {object} look */
function filled({ buckets, bucket_seconds: span, since, until }) {
  const told = new Map(buckets.map((bucket) => [bucket.at, bucket]));
  const first = buckets[0].at - span * Math.floor((buckets[0].at - since) / span);
  const count = Math.max(1, Math.ceil((until - first) / span));
  return Array.from({ length: count }, (_, place) => {
    const at = first + place * span;
    return told.get(at) ?? { ...NOTHING, at };
  });
}

/** The most frequent of some things, as many as there are colours. @param {Record<string, number>} totals */
const heaviest = (totals) =>
  Object.keys(totals)
    .sort((a, b) => totals[b] - totals[a])
    .slice(0, COLOURS.length);

/** @param {(number | null)[]} values */
const last = (values) => values.findLast((value) => value !== null);

/** @param {Record<string, number>} totals @param {(name: string) => string} called */
const inWords = (totals, called) =>
  heaviest(totals)
    .map((name) => `${called(name)} ${number(totals[name])}`)
    .join(", ");
