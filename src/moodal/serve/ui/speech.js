/** The microphone's panel: record, or talk live; a level meter, the time, and a way to stop. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { Icon } from "./icons.js";
import { listen } from "./listen.js";
import { meterOf } from "./microphone.js";
import { Waiting } from "./notice.js";
import { clock, t } from "./words.js";

/**
 * @typedef {object} OnLive
 * @property {() => void} began
 * @property {(message: object) => void} message an answer or a silence
 * @property {(answer: object, recording: Blob | null) => void} final
 * @property {() => void} unheard nothing was said, nor written
 */

/**
 * @param {object} props
 * @param {string} props.text said beside a live turn
 * @param {boolean} props.explain
 * @param {number} props.limit seconds of one recording
 * @param {(recording: Blob) => void} props.recorded
 * @param {OnLive} props.live
 * @param {(error: Error) => void} props.failed
 */
export function Speech({ text, explain, limit, recorded, live, failed }) {
  /** @type {["idle" | "opening" | "record" | "live" | "finishing", Function]} */
  const [mode, setMode] = useState("idle");
  const [heard, setHeard] = useState({ level: 0, seconds: 0 });
  const turn = useRef(null);
  const tape = useRef(null);

  useEffect(() => () => turn.current?.leave(), []);
  useEffect(() => {
    if (mode === "live") turn.current.say(text);
  }, [text]);
  useEffect(() => {
    if (mode === "record" && heard.seconds >= limit) stop();
  }, [heard]);

  const ears = {
    heard: (level, seconds) => setHeard({ level, seconds }),
    message(message) {
      if (message.type === "busy") return; // the next second may do better
      if (message.type !== "final") return live.message(message);
      const recording = tape.current ?? turn.current.stop();
      if (message.modalities) live.final(message, recording);
      else live.unheard();
      over();
    },
    failed(error) {
      turn.current?.leave();
      over();
      failed(error);
    },
  };

  function over() {
    turn.current = null;
    setMode("idle");
  }

  async function start(wanted) {
    setMode("opening");
    setHeard({ level: 0, seconds: 0 });
    tape.current = null;
    try {
      if (!navigator.mediaDevices) throw new Error(t("error.insecure"));
      turn.current = await listen({ live: wanted === "live", text, explain, limit }, ears);
      if (wanted === "live") live.began();
      setMode(wanted);
    } catch (error) {
      ears.failed(error);
    }
  }

  function stop() {
    tape.current = turn.current.stop();
    if (mode === "live") return setMode("finishing");
    recorded(tape.current);
    over();
  }

  if (mode === "finishing") return html`<${Waiting}>${t("ask.finishing")}<//>`;
  if (mode === "record" || mode === "live")
    return html`<${Listening} live=${mode === "live"} heard=${heard} stop=${stop} />`;
  return ["record", "live"].map(
    (wanted) => html`
      <button type="button" class="tool" disabled=${mode === "opening"} onClick=${() => start(wanted)}>
        <${Icon} name=${wanted === "live" ? "live" : "microphone"} />${t(`turn.${wanted}`)}
      </button>
    `,
  );
}

/** @param {{live: boolean, heard: {level: number, seconds: number}, stop: () => void}} props */
function Listening({ live, heard, stop }) {
  const button = useRef(null);
  useLayoutEffect(() => button.current.focus(), []);
  return html`
    <div class="listening">
      <span class="pulse" aria-hidden="true"></span>
      <span>${t(live ? "ask.talking" : "ask.recording")}</span>
      <meter aria-label=${t("ask.level")} min="0" max="1" value=${meterOf(heard.level)}></meter>
      <span class="clock">${clock(heard.seconds)}</span>
      <button type="button" class="tool" ref=${button} onClick=${stop}><${Icon} name="stop" />${t("ask.stop")}</button>
    </div>
  `;
}
