/** One answer under review: what was asked, what the model said, and the labels to choose from. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { input } from "./api.js";
import { Headline } from "./answer.js";
import { Probabilities, Shares } from "./bars.js";
import { Written } from "./judge.js";
import { Failure, Waiting } from "./notice.js";
import { Picture } from "./picture.js";
import { Player } from "./player.js";
import { labelName, modalityName, t, when } from "./words.js";

/**
 * @param {object} props
 * @param {object} props.row as GET /v1/review gives it
 * @param {object} props.model
 * @param {string} [props.said] what this reviewer has said of it already
 * @param {(label: string) => void} props.label
 * @param {string} props.comment
 * @param {(comment: string) => void} props.setComment
 * @param {{at: number, of: number, move: (by: number) => void}} props.place
 */
export function Reviewed({ row, model, said, label, comment, setComment, place }) {
  const card = useRef(null);
  const here = t("review.place", { at: place.at + 1, of: place.of });
  useLayoutEffect(() => {
    if (document.activeElement === document.body) card.current.focus(); // the button before is gone
  }, []);
  return html`
    <article class="card reviewed" ref=${card} tabindex="-1" aria-label=${here}>
      <div class="reviewed-asked"><${Inputs} inputs=${row.inputs} modalities=${row.modalities} /></div>
      <div class="reviewed-said">
        <p class="small muted">${t("review.modelSays")}</p>
        <${Headline} answer=${{ ...row, text: row.said }} />
        ${
          row.label !== null &&
          html`<${Probabilities} probabilities=${row.probabilities} label=${row.label} />`
        }
        ${
          Object.keys(row.contributions).length > 1 &&
          html`
          <h3>${t("answer.shares")}</h3>
          <${Shares} contributions=${row.contributions} ofValue=${row.value !== null} />
        `
        }
        ${row.judgement && html`<${UserSays} judgement=${row.judgement} />`}
        <p class="print">
          <span>${when(row.at)}</span>
          <span>${modalityName(row.modalities)}</span>
          <span>${t("answer.model", { version: row.model })}</span>
        </p>
      </div>
      <div class="reviewed-choose">
        <${Labels} row=${row} model=${model} said=${said} label=${label} />
        <label>${t("judge.comment")}
          <input id="review-comment" maxlength=${model.limits.comment_characters} value=${comment}
            onInput=${(event) => setComment(event.currentTarget.value)} />
        </label>
        <${Places} ...${place} />
      </div>
    </article>
  `;
}

/** @param {{row: object, model: object, said?: string, label: (label: string) => void}} props */
function Labels({ row, model, said, label }) {
  if (model.task !== "classify")
    return html`<${Written} answer=${{ ...row, text: row.said }} model=${model} busy=${false} choose=${label} />`;
  return html`
    <p id="review-title"><strong>${t("review.question")}</strong></p>
    <div class="choices" role="group" aria-labelledby="review-title">
      ${model.labels.map(
        (
          name,
          at,
        ) => html`<button type="button" class="choice" aria-pressed=${said === name} onClick=${() => label(name)}>
          ${at < 9 && html`<kbd>${at + 1}</kbd>`}${labelName(name)}</button>`,
      )}
    </div>
  `;
}

/** @param {{at: number, of: number, move: (by: number) => void}} props */
const Places = ({ at, of, move }) => html`
  <div class="places">
    <button type="button" class="quiet" disabled=${at === 0} onClick=${() => move(-1)}>
      <kbd>k</kbd>${t("review.back")}
    </button>
    <span class="small muted">${t("review.place", { at: at + 1, of })}</span>
    <button type="button" class="quiet" onClick=${() => move(1)}><kbd>j</kbd>${t("review.next")}</button>
  </div>
`;

/** @param {{judgement: {label: string, comment: string, at: number}}} props */
const UserSays = ({ judgement }) => html`
  <div class="notice">
    <p><strong>${t("review.userSays", { label: labelName(judgement.label) })}</strong></p>
    ${judgement.comment && html`<p>${judgement.comment}</p>`}
  </div>
`;

/** What was asked, where it was kept. @param {{inputs: Record<string, string>, modalities: string}} props */
function Inputs({ inputs, modalities }) {
  if (Object.keys(inputs).length === 0)
    return html`
      <div class="empty small">
        <p>${t("review.notKept", { what: modalityName(modalities) })}</p>
        <p><code>moodal serve --keep-inputs DIR</code></p>
      </div>
    `;
  return ["text", "image", "audio"]
    .filter((modality) => inputs[modality])
    .map(
      (modality) =>
        html`<${Input} key=${modality} modality=${modality} sha256=${inputs[modality]} />`,
    );
}

/** @param {{modality: string, sha256: string}} props */
function Input({ modality, sha256 }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    load();
  }, [sha256]);

  async function load() {
    setError(null);
    try {
      const blob = await input(sha256);
      setFound(modality === "text" ? await blob.text() : blob);
    } catch (failure) {
      setError(failure);
    }
  }

  if (error) return html`<${Failure} error=${error} again=${load} />`;
  if (found === null) return html`<${Waiting}>${t("loading")}<//>`;
  if (modality === "text") return html`<blockquote class="quoted" dir="auto">${found}</blockquote>`;
  if (modality === "image") return html`<${Picture} blob=${found} alt=${t("review.picture")} />`;
  return html`<${Player} blob=${found} />`;
}
