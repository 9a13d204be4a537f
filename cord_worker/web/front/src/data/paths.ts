/** Paths of the documents, and the run's name as a part of a path (documents.py and paths.py say how they are written). */

/** A run's name from its part of a path, in which some bytes are written `~XX`. */
export function nameOf(segment: string): string {
  try {
    return decodeURIComponent(segment.replaceAll("~", "%"));
  } catch {
    return segment;
  }
}

export const paths = {
  runs: "runs.json",
  run: (run: string): string => `runs/${run}/run.json`,
  problems: (run: string): string => `runs/${run}/problems.json`,
  problem: (run: string, position: number): string => `runs/${run}/problems/${position}.json`,
  texts: (run: string, position: number, step: number): string => `runs/${run}/problems/${position}/texts/${step}.json`,
  prompt: (run: string, position: number, candidate: number): string =>
    `runs/${run}/problems/${position}/prompts/${candidate}.json`,
  comparison: (a: string, b: string): string => `compare/${a}/${b}.json`,
};

const PLAIN = /^[A-Za-z0-9_-]$/;

/** A run's name as a part of a path. */
export function segmentOf(name: string): string {
  let result = "";
  for (const byte of new TextEncoder().encode(name)) {
    const character = String.fromCharCode(byte);
    result += PLAIN.test(character) ? character : `~${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return result;
}
