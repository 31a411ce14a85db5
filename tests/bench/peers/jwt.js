// jwt.js PORT SECRETFILE: connections authenticated by an HS256 token, with
// Node's ws and jsonwebtoken; each gets a first message and is kept.
'use strict';
const fs = require('fs');
const { randomUUID } = require('crypto');
const jwt = require('jsonwebtoken');
const { WebSocketServer } = require('ws');

const secret = fs.readFileSync(process.argv[3], 'utf8').replace(/\n$/, '');
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]) });
server.on('connection', (socket, request) => {
  socket.on('error', () => {});
  const header = request.headers.authorization || '';
  let claims;
  try {
    claims = jwt.verify(header.replace(/^Bearer /, ''), secret, { algorithms: ['HS256'] });
  } catch (e) {
    socket.close(1008, 'Invalid token');
    return;
  }
  socket.alive = true;
  socket.on('pong', () => { socket.alive = true; });
  socket.send(JSON.stringify({
    type: 'connected',
    payload: {
      connectionId: randomUUID(), userId: claims.sub, tenantId: claims.tenant_id, role: claims.role,
      expiresAt: new Date(claims.exp * 1000).toISOString(),
    },
  }));
});
// The heartbeat as ws's own documentation has it.
setInterval(() => {
  for (const socket of server.clients) {
    if (!socket.alive) { socket.terminate(); continue; }
    socket.alive = false;
    socket.ping();
  }
}, Number(process.env.HEARTBEAT_MS || 30000));
server.on('listening', () => console.log('ready'));
