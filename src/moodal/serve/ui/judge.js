/** "Was it right?": one click sends a judgement to the journal. */

import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { judge } from "./api.js";
import { Icon } from "./icons.js";
import { Failure } from "./notice.js";
import { labelName, t } from "./words.js";

/** More labels than this are chosen from a list. */
const BUTTONS = 12;

/** @param {{answer: object, model: object}} props answer: one with a prediction_id */
export function Judge({ answer, model }) {
  const [sent, setSent] = useState(null);
  const [error, setError] = useState(null);
  const [comment, setComment] = useState("");
  const [busy, setBusy] = useState(false);

  async function send(judgement) {
    setBusy(true);
    setError(null);
    const said = comment.trim() && { comment: comment.trim() };
    try {
      await judge({ prediction_id: answer.prediction_id, ...judgement, ...said });
      setSent(judgement);
    } catch (failure) {
      setError({ failure, again: () => send(judgement) });
    }
    setBusy(false);
  }

  if (sent) return html`<${Thanks} label=${sent.label} change=${() => setSent(null)} />`;
  return html`
    <section class="judge" aria-labelledby="judge-title">
      <h3 id="judge-title">${t("judge.title")}</h3>
      <div class="choices">
        <button type="button" class="choice" disabled=${busy} onClick=${() => send({ correct: true })}>
          <${Icon} name="check" />${t("judge.right")}
        </button>
      </div>
      <${Better} answer=${answer} model=${model} busy=${busy} choose=${(label) => send({ label })} />
      <details class="more">
        <summary>${t("judge.addComment")}</summary>
        <label>${t("judge.comment")}
          <textarea rows="2" maxlength=${model.limits.comment_characters} value=${comment}
            onInput=${(event) => setComment(event.currentTarget.value)}></textarea>
        </label>
      </details>
      ${error && html`<${Failure} error=${error.failure} again=${error.again} />`}
    </section>
  `;
}

/** @param {{label?: string, change: () => void}} props */
function Thanks({ label, change }) {
  const button = useRef(null);
  const said =
    label === undefined ? t("judge.thanksRight") : t("judge.thanks", { label: labelName(label) });
  useLayoutEffect(() => button.current.focus(), []); // the button that was pressed is gone
  return html`
    <div class="judge thanks" role="status">
      <p><${Icon} name="check" />${said}</p>
      <button type="button" class="quiet" ref=${button} onClick=${change}>${t("judge.change")}</button>
    </div>
  `;
}

/**
 * What it should have been: a label, a number or a text.
 * @param {{answer: object, model: object, busy: boolean, choose: (label: string) => void}} props
 */
function Better({ answer, model, busy, choose }) {
  const others = model.labels.filter((label) => label !== answer.label);
  if (model.task !== "classify" || others.length > BUTTONS)
    return html`<${Written} answer=${answer} model=${model} busy=${busy} choose=${choose} />`;
  return html`
    <p class="small muted" id="judge-better">${t("judge.better")}</p>
    <div class="choices" role="group" aria-labelledby="judge-better">
      ${others.map(
        (label) =>
          html`<button type="button" class="choice" disabled=${busy} onClick=${() => choose(label)}>
            ${labelName(label)}
          </button>`,
      )}
    </div>
  `;
}

/** @param {{answer: object, model: object, busy: boolean, choose: (label: string) => void}} props */
export function Written({ answer, model, busy, choose }) {
  const [value, setValue] = useState(
    answer.text ?? answer.label ?? (answer.value === null ? "" : String(answer.value)),
  );
  const change = (event) => setValue(event.currentTarget.value);
  const submit = (event) => {
    event.preventDefault();
    choose(value.trim());
  };
  const field = {
    classify: html`<select value=${value} onChange=${change}>
      ${model.labels.map((label) => html`<option value=${label}>${labelName(label)}</option>`)}
    </select>`,
    regress: html`<input type="number" step="any" required value=${value} onInput=${change} />`,
  };
  return html`
    <form class="written" onSubmit=${submit}>
      <label>${t("judge.better")}
        ${field[model.task] ?? html`<textarea rows="3" required value=${value} onInput=${change}></textarea>`}
      </label>
      <button type="submit" class="quiet" disabled=${busy}>${t("judge.send")}</button>
    </form>
  `;
}
