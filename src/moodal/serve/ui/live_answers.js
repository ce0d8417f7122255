/** Answers while somebody talks: the latest, and how it went second by second. */

import { html } from "./vendor/htm-preact.module.js";
import { Headline } from "./answer.js";
import { Probabilities } from "./bars.js";
import { Waiting } from "./notice.js";
import { clock, labelName, percent, t } from "./words.js";

/** Seconds that the strip shows. */
const STRIP = 60;
const COLOURS = 6;

/** @param {{messages: import("./live.js").Message[], labels: string[]}} props */
export function LiveAnswers({ messages, labels }) {
  const answer = messages.findLast((message) => message.type === "answer");
  const heard = messages.at(-1)?.type === "silence" ? "live.silence" : "live.listening";
  if (!answer) return html`<article class="card"><${Waiting}>${t(heard)}<//></article>`;
  return html`
    <article class="card answer" aria-label=${t("live.title")}>
      <${Headline} answer=${answer} />
      ${
        answer.label !== null &&
        html`<${Probabilities} probabilities=${answer.probabilities} label=${answer.label} />`
      }
      <${Strip} messages=${messages.slice(-STRIP)} labels=${labels} />
      <p class="small muted">${t(heard)}</p>
    </article>
  `;
}

/** @param {{messages: import("./live.js").Message[], labels: string[]}} props */
function Strip({ messages, labels }) {
  const colour = (label) => `var(--plot-${(Math.max(labels.indexOf(label), 0) % COLOURS) + 1})`;
  const seen = labels.filter((label) => messages.some((message) => message.label === label));
  return html`
    <ol class="strip" aria-label=${t("live.strip")}>
      ${messages.map((message) => {
        const spoken = message.type === "answer";
        const said = spoken
          ? `${labelName(message.label ?? "")} ${percent(message.confidence, 0)}`
          : t("live.silent");
        const look = spoken
          ? { "--sure": message.confidence, background: colour(message.label) }
          : { "--sure": 0 };
        return html`<li class=${message.type} style=${look} title=${`${clock(message.at)} ${said}`}>
          <span class="unseen">${clock(message.at)} ${said}</span>
        </li>`;
      })}
    </ol>
    <ul class="strip-legend small muted" aria-hidden="true">
      ${seen.map((label) => html`<li><i style=${{ background: colour(label) }}></i>${labelName(label)}</li>`)}
    </ul>
  `;
}
