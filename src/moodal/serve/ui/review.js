/** Review: the answers that most need a person's eye, one at a time, one key a label. */

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { judge, review } from "./api.js";
import { keyPressed } from "./keys.js";
import { Empty, Failure, Waiting } from "./notice.js";
import { Reviewed } from "./reviewed.js";
import { t } from "./words.js";

const ORDERS = ["uncertain", "disagreeing", "drifted", "newest"];
const AT_ONCE = 20;

/** @param {{model: object}} props */
export function Review({ model }) {
  const [order, setOrder] = useState(ORDERS[0]);
  const [rows, setRows] = useState(null);
  const [at, setAt] = useState(0);
  const [said, setSaid] = useState({});
  const [comment, setComment] = useState("");
  const [error, setError] = useState(null);
  const row = rows?.[at];

  useEffect(() => {
    load();
  }, [order]);

  async function load() {
    setRows(null);
    setError(null);
    try {
      setRows((await review(order, AT_ONCE)).rows);
      setAt(0);
      setSaid({});
    } catch (failure) {
      setError({ failure, again: load });
    }
  }

  async function label(value) {
    setError(null);
    const judgement = {
      prediction_id: row.id,
      label: value,
      reviewed: /** @type {const} */ (true),
    };
    try {
      await judge(comment.trim() ? { ...judgement, comment: comment.trim() } : judgement);
      setSaid((before) => ({ ...before, [row.id]: value }));
      setComment("");
      move(1);
    } catch (failure) {
      setError({ failure, again: () => label(value) });
    }
  }

  const move = (by) => setAt((before) => Math.max(0, Math.min(rows.length, before + by)));

  const keys = useRef({});
  keys.current = { row, label, move };
  useEffect(() => keyPressed(keysOf(model, keys)), []);

  return html`
    <div class="review">
      <div class="view-head">
        <h1>${t("view.review")}</h1>
        <label class="inline">${t("review.order")}
          <select value=${order} onChange=${(event) => setOrder(event.currentTarget.value)}>
            ${ORDERS.map((name) => html`<option value=${name}>${t(`order.${name}`)}</option>`)}
          </select>
        </label>
      </div>
      <p class="lead">${t(`order.${order}.why`)}</p>
      ${error && html`<${Failure} error=${error.failure} again=${error.again} />`}
      ${!rows && !error && html`<${Waiting}>${t("loading")}<//>`}
      ${rows?.length === 0 && html`<${Empty} title=${t("review.none")}>${t("review.noneHint")}<//>`}
      ${
        rows?.length > 0 &&
        !row &&
        html`<${Done} count=${Object.keys(said).length} more=${load} back=${() => move(-1)} />`
      }
      ${
        row &&
        html`<${Reviewed} key=${row.id} row=${row} model=${model} said=${said[row.id]} label=${label}
        comment=${comment} setComment=${setComment} place=${{ at, of: rows.length, move }} />`
      }
      <p class="unseen" role="status">${row ? t("review.place", { at: at + 1, of: rows.length }) : ""}</p>
    </div>
  `;
}

/** @param {object} model @param {{current: object}} now what the keys act on @returns {Record<string, () => void>} */
function keysOf(model, now) {
  const actions = {
    j: () => now.current.row && now.current.move(1),
    k: () => now.current.move(-1),
    c: () => document.getElementById("review-comment")?.focus(),
    p: () => play(document.querySelector(".review audio")),
  };
  if (model.task === "classify")
    model.labels.slice(0, 9).forEach((label, place) => {
      actions[place + 1] = () => now.current.row && now.current.label(label);
    });
  return actions;
}

/** @param {HTMLAudioElement | null} player */
const play = (player) => (player?.paused ? player.play() : player?.pause());

/** @param {{count: number, more: () => void, back: () => void}} props */
const Done = ({ count, more, back }) => html`
  <div class="empty">
    <p class="empty-title">${t("review.done", { n: count })}</p>
    <p>
      <button type="button" class="quiet" onClick=${back}>${t("review.back")}</button>${" "}
      <button type="button" onClick=${more}>${t("review.more")}</button>
    </p>
  </div>
`;
