// A plain server of web/dist, as any host of static files is one: no special headers, no compression.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".json": "application/json" };

/** -> { address, close }; on a free port of this machine, unless one is given. */
export async function serve(port = 0) {
  const server = createServer(async (request, response) => {
    const given = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    const path = given.endsWith("/") ? `${given}index.html` : given;
    try {
      const body = await readFile(join(DIST, path));
      response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const close = () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
  return { address: `http://127.0.0.1:${server.address().port}/`, close };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(`The playground: ${(await serve(8080)).address}`);
