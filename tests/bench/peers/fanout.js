// fanout.js PORT: one publisher (/pub), many subscribers (/sub), with Node's ws.
//
// As an application would do it: the message is parsed, an event is made of it
// and serialised once, and each subscriber gets that text.
'use strict';
const { WebSocketServer, WebSocket } = require('ws');

const subscribers = new Set();
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]) });
server.on('connection', (socket, request) => {
  socket.on('error', () => {});
  if (request.url.startsWith('/sub')) {
    subscribers.add(socket);
    socket.on('close', () => subscribers.delete(socket));
    return;
  }
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    if (message.type !== 'telemetry') return;
    const event = Buffer.from(JSON.stringify({
      type: 'telemetry',
      payload: { deviceId: 'd1', at: new Date().toISOString(), data: message.payload.data },
    }));
    for (const s of subscribers) {
      if (s.readyState === WebSocket.OPEN) s.send(event, { binary: false });
    }
  });
});
server.on('listening', () => console.log('ready'));
