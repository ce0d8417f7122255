/** A file that goes with a question: dropped, pasted, chosen, recorded or photographed. */

import { useEffect, useState } from "./vendor/htm-preact.module.js";

/** @typedef {{blob: Blob, name: string}} Attachment */

/**
 * An address to show a file by, as long as the component that asks for it is there.
 * @param {Blob | null | undefined} blob
 * @returns {string} "" = not yet, or there is no file
 */
export function useUrl(blob) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = blob ? URL.createObjectURL(blob) : "";
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}

/**
 * What a file is, by its type or, where the browser knows none, by its name.
 * @param {File} file
 * @returns {"text" | "image" | "audio" | null}
 */
export function kindOf(file) {
  const [kind] = file.type.split("/");
  if (kind === "image" || kind === "audio" || kind === "text") return kind;
  if (/\.(flac|opus|ogg|oga|m4a|aac|mp3|wav|webm)$/i.test(file.name)) return "audio";
  return null;
}
