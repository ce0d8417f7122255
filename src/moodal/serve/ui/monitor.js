/** Monitor: what is asked, how fast and how well it is answered, and whether that changes. */

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { monitor } from "./api.js";
import { Accuracy } from "./accuracy.js";
import { Alerts, Events } from "./happenings.js";
import { Drift } from "./drift.js";
import { Empty, Failure, Waiting } from "./notice.js";
import { plotsOf } from "./plots.js";
import { Plot } from "./plot.js";
import { duration, number, percent, t } from "./words.js";

const SPANS = ["1h", "24h", "7d", "30d"];
const REFRESH_MS = 15_000;

export function Monitor() {
  const [since, setSince] = useState("24h");
  const [look, setLook] = useState(null);
  const [error, setError] = useState(null);
  const shut = useRef(false); // who would not give a key is not asked again and again

  async function load() {
    try {
      setLook(await monitor(since));
      shut.current = false;
      setError(null);
    } catch (failure) {
      shut.current = failure.code === "key";
      setError(failure);
    }
  }
  useEffect(() => {
    load();
    const timer = setInterval(() => document.hidden || shut.current || load(), REFRESH_MS);
    return () => clearInterval(timer);
  }, [since]);

  return html`
    <div class="monitor">
      <div class="view-head">
        <h1>${t("view.monitor")}</h1>
        <label class="inline">${t("monitor.since")}
          <select value=${since} onChange=${(event) => setSince(event.currentTarget.value)}>
            ${SPANS.map((span) => html`<option value=${span}>${t(`since.${span}`)}</option>`)}
          </select>
        </label>
      </div>
      ${error && html`<${Failure} error=${error} again=${load} />`}
      ${!look && !error && html`<${Waiting}>${t("loading")}<//>`}
      ${look && html`<${Look} look=${look} />`}
    </div>
  `;
}

/** @param {{look: object}} props */
const Look = ({ look }) => html`
  <${Alerts} alerts=${look.alerts} />
  ${
    look.requests === 0
      ? html`<${Empty} title=${t("monitor.none")}>${t("monitor.noneHint")}<//>`
      : html`<${Tiles} look=${look} />
        <div class="plots">
          ${plotsOf(look).map((plot) => html`<${Plot} key=${plot.title} ...${plot} />`)}
          <${Accuracy} accuracy=${look.accuracy} />
        </div>
        <${Drift} look=${look} />`
  }
  <${Events} look=${look} />
`;

/** @param {{look: object}} props */
function Tiles({ look: { requests, buckets, accuracy } }) {
  const slowest = Math.max(...buckets.map((bucket) => bucket.p99_ms ?? 0));
  const abstained = buckets.reduce((sum, bucket) => sum + bucket.abstained, 0);
  const range = (pair) => pair && `${percent(pair[0], 0)} – ${percent(pair[1], 0)}`;
  const tiles = [
    [t("tile.requests"), number(requests), t("tile.requestsHint")],
    [t("tile.slowest"), duration(slowest), t("tile.slowestHint")],
    [t("tile.abstained"), percent(abstained / requests), t("tile.abstainedHint")],
    [
      t("tile.estimated"),
      share(accuracy.estimated),
      range(accuracy.estimated_interval) ?? t("tile.estimatedHint"),
    ],
    [
      t("tile.feedback"),
      share(accuracy.feedback),
      range(accuracy.feedback_interval) ?? t("tile.feedbackHint"),
    ],
    [t("tile.judged"), number(accuracy.n_feedback), t("tile.judgedHint")],
  ];
  return html`
    <dl class="tiles">
      ${tiles.map(
        ([name, value, hint]) => html`
        <div class="tile"><dt>${name}</dt><dd>${value}</dd><dd class="small muted">${hint}</dd></div>`,
      )}
    </dl>
  `;
}

/** @param {number | null} value */
const share = (value) => (value === null ? "–" : percent(value));
