/** A turn at the microphone: kept as a recording and, where it is live, answered while it lasts. */

import { openLive } from "./live.js";
import { openMicrophone } from "./microphone.js";
import { wav } from "./wav.js";

/**
 * @typedef {object} Ears what happens in a turn
 * @property {(level: number, seconds: number) => void} heard about ten times a second
 * @property {(message: import("./live.js").Message) => void} message live only: an answer, a silence, the final answer
 * @property {(error: Error) => void} failed live only: the stream has ended without an answer
 */

/**
 * @typedef {object} Turn
 * @property {() => Blob | null} stop the recording, null of one too long to keep; a live turn's
 *   final answer is still to come
 * @property {(text: string) => void} say words beside a live turn
 * @property {() => void} leave end it, and want nothing more of it
 */

/**
 * @param {{live: boolean, text: string, explain: boolean, limit: number}} wanted limit: seconds
 *   that are kept
 * @param {Ears} ears
 * @returns {Promise<Turn>}
 */
export async function listen({ live, text, explain, limit }, ears) {
  /** @type {Int16Array<ArrayBuffer>[]} */ const chunks = [];
  let samples = 0;
  /** @type {import("./live.js").Live | null} */ let wire = null;

  const microphone = await openMicrophone((chunk, level) => {
    samples += chunk.length;
    wire?.send(chunk);
    if (samples <= limit * microphone.sampleRate) chunks.push(chunk);
    ears.heard(level, samples / microphone.sampleRate);
  });
  if (live) {
    try {
      wire = await openLive({ sampleRate: microphone.sampleRate, text, explain }, ears);
    } catch (error) {
      microphone.stop();
      throw error;
    }
    chunks.forEach(wire.send); // heard while the stream was being opened
  }
  return {
    stop() {
      microphone.stop();
      wire?.end();
      const whole = samples <= limit * microphone.sampleRate;
      return whole ? wav(chunks, microphone.sampleRate) : null;
    },
    say: (words) => wire?.say(words),
    leave() {
      microphone.stop();
      wire?.leave();
    },
  };
}
