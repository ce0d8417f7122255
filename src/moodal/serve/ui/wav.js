/** A recording as a file: 16-bit PCM behind the 44 bytes of a RIFF header. */

/**
 * @param {Int16Array<ArrayBuffer>[]} chunks one channel
 * @param {number} sampleRate
 * @returns {Blob}
 *
 * Source: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0, p. 56.
 */
export function wav(chunks, sampleRate) {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const word = (at, text) => [...text].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  word(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // length of what follows, up to "data"
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true); // bytes a second
  header.setUint16(32, 2, true); // bytes a frame
  header.setUint16(34, 16, true); // bits a sample
  word(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...chunks], { type: "audio/wav" });
}
