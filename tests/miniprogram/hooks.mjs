// Lets node run the mini-program's modules as WeChat's tools do, which find a module without its ending; and changes one
// line of them where a test says so, to see that something fails.

import { registerHooks } from "node:module";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const mutation = JSON.parse(process.env.CHECKIN_MUTATION ?? "null");

registerHooks({
  resolve(specifier, context, next) {
    if (specifier.startsWith(".") && existsSync(fileURLToPath(new URL(`${specifier}.ts`, context.parentURL)))) {
      return next(`${specifier}.ts`, context);
    }
    return next(specifier, context);
  },
  load(url, context, next) {
    const loaded = next(url, context);
    if (!mutation || !url.endsWith(mutation.file)) return loaded;
    const source = String(loaded.source);
    if (source.split(mutation.from).length !== 2) throw new Error(`not once in ${mutation.file}: ${mutation.from}`);
    return { ...loaded, source: source.replace(mutation.from, () => mutation.to) };
  },
});
