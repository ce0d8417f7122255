/** The service, as the page sees it: one function a question, one kind of error. */

import { t } from "./words.js";

/** A question that got no answer. code: as the service names it, or "offline", "key". */
export class ServiceError extends Error {
  /** @param {string} message @param {{code: string, status?: number, field?: string, wait?: number}} about */
  constructor(message, { code, status = 0, field = "", wait = 0 }) {
    super(message);
    this.code = code;
    this.status = status;
    this.field = field;
    this.wait = wait;
  }
}

const KEY = "moodal.key";

/** The key of this tab; it is forgotten when the tab is closed. */
export const key = () => sessionStorage.getItem(KEY) ?? "";

/** @param {string} value */
export const setKey = (value) => sessionStorage.setItem(KEY, value);

/**
 * What the page does when the service wants a key: resolves when the user has given one, rejects
 * when they will not. Set once, by main.js.
 */
export const doors = {
  /** @type {(refused: boolean) => Promise<void>} */ askForKey: () => Promise.reject(),
  /** @type {(reached: boolean) => void} */ reached: () => {},
};

/** @type {Promise<void> | null} Questions that meet a closed door at once wait for one key. */
let asking = null;

/** @param {boolean} refused the key that was sent is not known */
async function needKey(refused) {
  asking ??= doors.askForKey(refused).finally(() => (asking = null));
  try {
    await asking;
  } catch {
    throw new ServiceError(t("error.key"), { code: "key", status: 401 });
  }
}

/**
 * @param {string} path
 * @param {RequestInit & {json?: unknown}} [options]
 * @returns {Promise<Response>} one that succeeded
 */
export async function ask(path, { json, ...options } = {}) {
  const sent = key();
  const headers = new Headers(options.headers);
  if (sent) headers.set("Authorization", `Bearer ${sent}`);
  if (json !== undefined) {
    headers.set("Content-Type", "application/json");
    options = { method: "POST", ...options, body: JSON.stringify(json) };
  }
  const response = await send(path, { ...options, headers });
  if (response.status === 401) {
    if (sent === key()) await needKey(sent !== ""); // else another question has got one meanwhile
    return ask(path, { json, ...options });
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {string} path @param {RequestInit} options */
async function send(path, options) {
  try {
    const response = await fetch(path, { cache: "no-store", ...options });
    doors.reached(true);
    return response;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    doors.reached(false);
    throw new ServiceError(t("error.offline"), { code: "offline" });
  }
}

/** @param {Response} response */
async function refusal(response) {
  const about = { status: response.status, wait: Number(response.headers.get("Retry-After") ?? 0) };
  try {
    const { code, message, field } = (await response.json()).error;
    return new ServiceError(message, { ...about, code, field });
  } catch {
    return new ServiceError(`${response.status} ${response.statusText}`, {
      ...about,
      code: "unknown",
    });
  }
}

/** @param {string} path @param {RequestInit & {json?: unknown}} [options] */
const read = async (path, options) => (await ask(path, options)).json();

export const model = () => read("/v1/model");

/** @param {FormData} form @param {AbortSignal} signal */
export const predict = (form, signal) =>
  read("/v1/predict", { method: "POST", body: form, signal });

/** @param {{prediction_id: string, label?: string, correct?: true, comment?: string, reviewed?: true}} judgement */
export const judge = (judgement) => read("/v1/feedback", { json: judgement });

/** @param {string} order @param {number} limit */
export const review = (order, limit) => read(`/v1/review?order=${order}&limit=${limit}`);

/** @param {string} since such as 24h */
export const monitor = (since) => read(`/v1/monitor?since=${since}`);

export const openapi = () => read("/openapi.json");

/** @param {string} sha256 */
export const input = async (sha256) => (await ask(`/v1/inputs/${sha256}`)).blob();

/** Whether the service can be reached; asks nothing of it. */
export async function alive() {
  try {
    return (await fetch("/healthz", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}
