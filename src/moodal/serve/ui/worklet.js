/** In the audio thread: samples in, tenths of a second of 16-bit PCM and their loudness out. */

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this.chunk = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.energy = 0;
  }

  /** @param {Float32Array[][]} inputs one input, its first channel */
  process([[samples]]) {
    for (const sample of samples ?? []) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.chunk[this.filled++] = Math.round(clipped * 32767);
      this.energy += clipped * clipped;
      if (this.filled === this.chunk.length) this.emit();
    }
    return true;
  }

  emit() {
    const level = Math.sqrt(this.energy / this.chunk.length);
    this.port.postMessage({ chunk: this.chunk, level }, [this.chunk.buffer]);
    this.chunk = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.energy = 0;
  }
}

registerProcessor("pcm", Pcm);
