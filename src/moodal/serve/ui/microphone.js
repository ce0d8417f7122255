/** The microphone as a stream of 16-bit PCM, at the rate that the device has. */

/**
 * @param {(chunk: Int16Array<ArrayBuffer>, level: number) => void} heard about ten times a second; level: root
 *   mean square, in [0, 1]
 * @returns {Promise<{sampleRate: number, stop: () => void}>}
 */
export async function openMicrophone(heard) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext();
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    await context.resume();
  } catch (error) {
    stop();
    throw error;
  }
  const pcm = new AudioWorkletNode(context, "pcm", { numberOfOutputs: 0 });
  pcm.port.onmessage = ({ data }) => heard(data.chunk, data.level);
  context.createMediaStreamSource(stream).connect(pcm);
  return { sampleRate: context.sampleRate, stop };
}

/** Loudness as a meter shows it: 60 dB of range, in [0, 1]. @param {number} level */
export const meterOf = (level) =>
  Math.max(0, Math.min(1, 1 + (20 * Math.log10(level + 1e-9)) / 60));
