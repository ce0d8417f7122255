/** The card of one answer: what it is, how sure, what it came from, and whether to act on it. */

import { html } from "./vendor/htm-preact.module.js";
import { Probabilities, Shares } from "./bars.js";
import { Judge } from "./judge.js";
import { Picture } from "./picture.js";
import { Player, Transcript } from "./player.js";
import { Words } from "./weighted.js";
import { duration, labelName, number, percent, t } from "./words.js";

/** @typedef {{text: string, image: Blob | null, audio: Blob | null}} Asked */

/**
 * @param {object} props
 * @param {object} props.answer as POST /v1/predict gives it
 * @param {Asked} props.asked
 * @param {object} props.model as GET /v1/model gives it
 * @param {number | null} props.milliseconds there and back; null of a live answer
 */
export const Answer = ({ answer, asked, model, milliseconds }) => html`
  <article class="card answer" aria-labelledby="answer-title">
    <${Headline} answer=${answer} />
    <${Abstention} answer=${answer} model=${model} />
    ${
      answer.label !== null &&
      html`<section aria-label=${t("answer.probabilities")}>
      <${Probabilities} probabilities=${answer.probabilities} label=${answer.label} />
    </section>`
    }
    <${Reasons} answer=${answer} asked=${asked} />
    ${answer.prediction_id && html`<${Judge} key=${answer.prediction_id} answer=${answer} model=${model} />`}
    <${SmallPrint} answer=${answer} milliseconds=${milliseconds} />
  </article>
`;

/** @param {{answer: object}} props */
export function Headline({ answer }) {
  const { label, value, text, confidence } = answer;
  if (value !== null) return html`<h2 id="answer-title" class="label">${number(value, 3)}</h2>`;
  if (label === null) {
    const said = text === null ? t("review.saidNotKept") : text || t("answer.nothing");
    return html`<h2 id="answer-title" class="said">${said}</h2>`;
  }
  return html`
    <h2 id="answer-title" class="label">
      ${labelName(label)} <span class="sure">${t("answer.sure", { sure: percent(confidence) })}</span>
    </h2>
  `;
}

/** @param {{answer: object, model: object}} props */
function Abstention({ answer, model }) {
  if (!answer.abstain) return null;
  const values = { sure: percent(answer.confidence), threshold: percent(model.threshold) };
  return html`
    <div class="notice caution">
      <p><strong>${t("abstain.title")}</strong> ${t(`abstain.${answer.reason}`, values)}</p>
    </div>
  `;
}

/** @param {{answer: object, asked: Asked}} props */
function Reasons({ answer, asked }) {
  const ofValue = answer.value !== null;
  const heard = answer.tokens.length > 0;
  return html`
    ${
      answer.modalities.length > 0 &&
      html`<section>
      <h3>${t("answer.shares")}</h3>
      <${Shares} contributions=${answer.contributions} ofValue=${ofValue} />
      <p class="small muted">${t(ofValue ? "answer.sharesOfValue" : "answer.sharesOfProbability")}</p>
    </section>`
    }
    ${
      answer.words.length > 0 &&
      html`<section>
      <h3>${t("answer.words")}</h3>
      <${Words} text=${asked.text} words=${answer.words} ofValue=${ofValue} />
    </section>`
    }
    ${
      asked.image &&
      html`<section>
      <h3>${t(answer.regions.length ? "answer.regions" : "modality.image")}</h3>
      <${Picture} blob=${asked.image} regions=${answer.regions} alt=${t("answer.yourPicture")} />
    </section>`
    }
    ${
      (asked.audio || heard) &&
      html`<section>
      <h3>${t(heard ? "answer.wordByWord" : "modality.audio")}</h3>
      ${
        asked.audio
          ? html`<${Player} blob=${asked.audio} tokens=${answer.tokens} />`
          : html`<${Transcript} tokens=${answer.tokens} at=${-1} />`
      }
    </section>`
    }
  `;
}

/** @param {{answer: object, milliseconds: number | null}} props */
const SmallPrint = ({ answer, milliseconds }) => html`
  <p class="print">
    ${milliseconds !== null && html`<span>${t("answer.latency", { time: duration(milliseconds) })}</span>`}
    <span>${t("answer.model", { version: answer.model_version })}</span>
    ${answer.prediction_id && html`<span>${t("answer.id")} <code>${answer.prediction_id}</code></span>`}
  </p>
`;
