import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { defineConfig, type Plugin } from "vite";

const ROOT = import.meta.dirname;
const STATIC = join(ROOT, "../src/taxiway/control/console/static");
const SOURCES = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src"];

function files(path: string): string[] {
  const found = readdirSync(path, { withFileTypes: true });
  return found.flatMap((one) => (one.isDirectory() ? files(join(path, one.name)) : [join(path, one.name)]));
}

function digests(root: string, paths: string[]): Record<string, string> {
  const told = paths.map((path) => [
    relative(root, path).replaceAll("\\", "/"),
    createHash("sha256").update(readFileSync(path)).digest("hex"),
  ]);
  return Object.fromEntries(told.sort((one, other) => (one[0]! < other[0]! ? -1 : 1)));
}

/** Says which source the built files are of, and what they are: a test compares, without Node. */
function manifest(): Plugin {
  return {
    name: "manifest",
    apply: "build",
    closeBundle() {
      const sources = SOURCES.flatMap((name) => (name === "src" ? files(join(ROOT, name)) : [join(ROOT, name)]));
      const built = files(STATIC).filter((path) => !path.endsWith("built.json"));
      const told = { sources: digests(ROOT, sources), files: digests(STATIC, built) };
      writeFileSync(join(STATIC, "built.json"), JSON.stringify(told, null, 1) + "\n");
    },
  };
}

export default defineConfig({
  base: "/console/",
  build: {
    outDir: STATIC,
    emptyOutDir: true,
    assetsDir: "assets",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  plugins: [manifest()],
  server: { proxy: { "/v1": "http://127.0.0.1:8003" } },
  test: { include: ["test/**/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
