// Run by Node: a TypeScript client of either line does what a task says and prints what it saw; knows nothing of kheish_mcp.
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = async () => (await lines.next()).value;
const say = value => process.stdout.write(`${JSON.stringify(value)}\n`);
const task = JSON.parse(await told());

const LINES = {
  'client 2': async () => {
    const { Client, SSEClientTransport, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
    const call = (client, params, options) => client.callTool(params, options);
    return { Client, SSEClientTransport, StreamableHTTPClientTransport, StdioClientTransport, call };
  },
  'sdk 1': async () => {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { SSEClientTransport } = await import('@modelcontextprotocol/sdk/client/sse.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    const call = (client, params, options) => client.callTool(params, undefined, options);
    return { Client, SSEClientTransport, StreamableHTTPClientTransport, StdioClientTransport, call };
  },
};
const sdk = await LINES[task.client]();

const [command, ...args] = task.command;
const TRANSPORTS = {
  stdio: () => new sdk.StdioClientTransport({ command, args, env: task.env, maxBufferSize: task.buffer }),
  sse: () => new sdk.SSEClientTransport(new URL(`${task.base}/sse`)),
  streamable: () => new sdk.StreamableHTTPClientTransport(new URL(`${task.base}/mcp`)),
};

let change;
const changed = new Promise(resolve => (change = resolve));
const onChanged = (error, tools) => change(error ? String(error) : tools.map(tool => tool.name));
const client = new sdk.Client({ name: task.name, version: '1' }, {
  versionNegotiation: { mode: task.era === 'legacy' ? 'legacy' : { pin: task.era } },
  listChanged: { tools: { autoRefresh: true, debounceMs: 0, onChanged } },
});
await client.connect(TRANSPORTS[task.transport]());

const seen = { revision: client.getNegotiatedProtocolVersion?.() ?? null, server: client.getServerVersion() };
seen.tools = (await client.listTools()).tools.map(tool => tool.name);
seen.resources = (await client.listResources()).resources.map(resource => [resource.uri, resource.size ?? null]);

const stop = new AbortController();
const dropped = sdk.call(client, { name: 'generate_image', arguments: { prompt: 'never mind' } }, { signal: stop.signal });
say({ asks: 'stop' });
await told();
stop.abort('the user pressed stop');
seen.stopped = await dropped.then(() => 'it was answered', () => 'it was dropped');

const picture = await sdk.call(client, { name: 'generate_image', arguments: { prompt: 'a lighthouse' } });
seen.picture = picture.content.map(block => block.type);
const image = picture.content.find(block => block.type === 'image');
seen.image = [image.mimeType, Buffer.from(image.data, 'base64').subarray(1, 4).toString('latin1')];

const digest = ({ contents: [{ blob }] }) => {
  const bytes = Buffer.from(blob, 'base64');
  return [bytes.length, createHash('sha256').update(bytes).digest('hex')];
};
seen.read = await client.readResource({ uri: task.uri }).then(digest, error => error.message);

await writeFile(task.routes, task.change);
seen.changed = await changed;
say({ seen });
await client.close();
process.exit(0);
