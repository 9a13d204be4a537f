// Builds src/ into app.js, app.css and the licences of the packages in them: `npm ci && npm run build`.
// `node build.mjs FOLDER` writes to another folder. The same sources and lock file give the same bytes.
import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "..", "static"));

const result = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  format: "iife",
  target: ["chrome123", "firefox121", "safari17.5"],
  charset: "utf8",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
});

// A report embeds both files in its page. There, these texts would end the element early or change its content's hash.
const FORBIDDEN = ["</script", "</style", "<!--", "\r", "\0"];

await mkdir(out, { recursive: true });
for (const file of result.outputFiles) {
  for (const text of FORBIDDEN) {
    if (file.text.toLowerCase().includes(text)) throw new Error(`${file.path} contains ${JSON.stringify(text)}`);
  }
  await writeFile(file.path, file.contents);
}

const packages = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const found = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  if (found) packages.add(found[1]);
}
const parts = ["app.js and app.css contain the following packages."];
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const text = (await readFile(join(folder, "LICENSE"), "utf8")).replaceAll("\r", "").trim();
  parts.push(`${"-".repeat(80)}\n${name} ${version} (${license})\n\n${text}`);
}
await writeFile(join(out, "THIRD-PARTY-LICENCES.txt"), parts.join("\n\n") + "\n");
