/** The camera: what it sees, and a button that takes it. */

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { Dialog } from "./dialog.js";
import { Failure, Waiting } from "./notice.js";
import { t } from "./words.js";

const QUALITY = 0.9;

/** @param {{taken: (picture: Blob) => void, close: () => void}} props */
export function Camera({ taken, close }) {
  const view = useRef(null);
  const [stream, setStream] = useState(null);
  const [error, setError] = useState(null);

  useEffect(() => {
    let opened = null;
    let left = false;
    (async () => {
      try {
        if (!navigator.mediaDevices) throw new Error(t("error.insecure"));
        opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
        if (left) stopAll(opened);
        else setStream(opened);
      } catch (failure) {
        setError(failure);
      }
    })();
    return () => {
      left = true;
      stopAll(opened);
    };
  }, []);
  useEffect(() => {
    if (stream) view.current.srcObject = stream;
  }, [stream]);

  function take() {
    const { videoWidth: width, videoHeight: height } = view.current;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(view.current, 0, 0);
    canvas.toBlob(taken, "image/jpeg", QUALITY);
  }

  const shutter = html`<button type="button" disabled=${!stream} onClick=${take}>${t("camera.take")}</button>`;
  return html`
    <${Dialog} title=${t("camera.title")} close=${close} actions=${shutter}>
      ${error && html`<${Failure} error=${error} />`}
      ${!error && !stream && html`<${Waiting}>${t("camera.opening")}<//>`}
      ${
        stream &&
        html`<video ref=${view} class="viewfinder" autoplay playsinline muted
        aria-label=${t("camera.title")}></video>`
      }
    <//>
  `;
}

/** @param {MediaStream | null} stream */
const stopAll = (stream) => stream?.getTracks().forEach((track) => track.stop());
