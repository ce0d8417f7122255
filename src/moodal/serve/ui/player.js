/** A recording and the words that were heard in it, each where it was said. */

import { html, useRef, useState } from "./vendor/htm-preact.module.js";
import { useUrl } from "./attachment.js";
import { clock, percent, t } from "./words.js";

/** @typedef {{text: string, confidence: number, start: number | null, end: number | null}} Token */

/** @param {{blob: Blob, tokens?: Token[]}} props */
export function Player({ blob, tokens = [] }) {
  const url = useUrl(blob);
  const player = useRef(null);
  const [at, setAt] = useState(-1);
  const jump = (start) => {
    player.current.currentTime = start;
    player.current.play();
  };
  return html`
    <div class="player">
      ${
        url &&
        html`<audio ref=${player} src=${url} controls aria-label=${t("recording")}
        onTimeUpdate=${() => setAt(player.current.currentTime)}></audio>`
      }
      ${tokens.length > 0 && html`<${Transcript} tokens=${tokens} at=${at} jump=${jump} />`}
    </div>
  `;
}

/** Chinese is written without spaces. */
const APART = /[^\u3400-\u9fff]$/;

/**
 * @param {{tokens: Token[], at: number, jump?: (start: number) => void}} props at: seconds, where
 *   the recording is being played
 */
export const Transcript = ({ tokens, at, jump }) => html`
  <p class="transcript">
    ${tokens.map(({ text, confidence, start, end }) => {
      const sure = { "--sure": confidence.toFixed(2) };
      const gap = APART.test(text) ? " " : "";
      const about = t("answer.sure", { sure: percent(confidence, 0) });
      if (start === null || !jump)
        return html`<span class="token" style=${sure} title=${about}>${text}</span>${gap}`;
      const now = at >= start && at < (end ?? start);
      return html`<button type="button" class=${now ? "token now" : "token"} style=${sure}
        title=${`${clock(start)} · ${about}`} onClick=${() => jump(start)}>${text}</button>${gap}`;
    })}
  </p>
  <p class="small muted">${t("answer.tokens")}</p>
`;
