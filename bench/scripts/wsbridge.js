// The same bridge with node and its module ws.
//
//   node wsbridge.js LISTENPORT TARGETPORT
const net = require("net");
const { WebSocketServer } = require("ws");
const [listen, target] = process.argv.slice(2).map(Number);
const HIGH = 256 * 1024; // unsent bytes

new WebSocketServer({ host: "127.0.0.1", port: listen, backlog: 65535, perMessageDeflate: false }).on("connection", (client) => {
  const server = net.connect({ host: "127.0.0.1", port: target, noDelay: true });
  server.on("data", (data) => {
    client.send(data, () => { if (client.bufferedAmount < HIGH) server.resume(); });
    if (client.bufferedAmount >= HIGH) server.pause();
  });
  client.on("message", (data) => { if (!server.write(data)) client.pause(); });
  server.on("drain", () => client.resume());
  server.on("close", () => client.close());
  server.on("error", () => client.terminate());
  client.on("close", () => server.destroy());
  client.on("error", () => server.destroy());
});
