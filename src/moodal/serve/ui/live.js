/** Live speech: sound up, an answer about each second down, over one WebSocket. */

import { ServiceError, key } from "./api.js";
import { t } from "./words.js";

/** @typedef {{type: "answer" | "silence" | "final", at: number, [field: string]: any}} Message at: seconds */

/**
 * @typedef {object} Live
 * @property {(chunk: Int16Array<ArrayBuffer>) => void} send
 * @property {(text: string) => void} say
 * @property {() => void} end no more sound comes, the final answer is wanted
 * @property {() => void} leave nothing is wanted any more
 */

/**
 * @param {{sampleRate: number, text: string, explain: boolean}} about
 * @param {{message: (message: Message) => void, failed: (error: ServiceError) => void}} on
 * @returns {Promise<Live>}
 */
export async function openLive(about, on) {
  const socket = await opened();
  const start = {
    type: "start",
    format: "pcm16",
    sample_rate: about.sampleRate,
    explain: about.explain,
  };
  const post = (message) =>
    socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
  let over = false;
  const fail = (error) => {
    if (!over) on.failed(error);
    over = true;
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "error") fail(new ServiceError(message.error.message, message.error));
    else if (!over) on.message(message);
    over ||= message.type === "final";
  };
  socket.onclose = () => fail(new ServiceError(t("error.streamEnded"), { code: "closed" }));
  post({ ...start, ...(about.text && { text: about.text }), ...(key() && { key: key() }) });
  return {
    send: (chunk) => socket.readyState === WebSocket.OPEN && socket.send(chunk),
    say: (text) => post({ type: "text", text: text || null }),
    end: () => post({ type: "end" }),
    leave: () => {
      over = true;
      socket.close();
    },
  };
}

/** @returns {Promise<WebSocket>} */
function opened() {
  const socket = new WebSocket(new URL("/v1/stream", location.href.replace(/^http/, "ws")));
  socket.binaryType = "arraybuffer";
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket);
    socket.onerror = () => reject(new ServiceError(t("error.stream"), { code: "stream" }));
  });
}
