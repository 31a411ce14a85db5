// relay.js PORT: commands from controllers to devices and back, with Node's ws.
//
// In memory only: nothing is stored, so it does less than a server that keeps
// its promise about commands after a crash; read the ratio with that in mind.
'use strict';
const { randomUUID } = require('crypto');
const { WebSocketServer } = require('ws');

const devices = new Map();
const pending = new Map();

function send(socket, type, payload, re) {
  socket.send(JSON.stringify({ type, payload, re }));
}

function fromController(socket, message) {
  if (message.type !== 'command') return;
  const { deviceId, command, params, timeoutMs = 30000 } = message.payload;
  const device = devices.get(deviceId);
  if (device === undefined) {
    send(socket, 'error', { code: 'device_offline', message: 'the device is not connected' }, message.id);
    return;
  }
  const now = Date.now();
  const entry = {
    commandId: randomUUID(), deviceId, command, params, status: 'sent',
    createdAt: new Date(now).toISOString(), sentAt: new Date(now).toISOString(), finishedAt: null,
    result: null, error: null,
  };
  const timer = setTimeout(() => {
    pending.delete(entry.commandId);
    entry.status = 'timeout';
    send(socket, 'command_status', entry);
  }, timeoutMs);
  pending.set(entry.commandId, { entry, socket, timer });
  send(device, 'command', {
    commandId: entry.commandId, command, params, issuedAt: entry.createdAt,
    expiresAt: new Date(now + timeoutMs).toISOString(), attempt: 1,
  });
  send(socket, 'command_status', entry, message.id);
}

function fromDevice(message) {
  if (message.type !== 'command_ack') return;
  const found = pending.get(message.payload.commandId);
  if (found === undefined) return;
  const { entry, socket, timer } = found;
  clearTimeout(timer);
  pending.delete(entry.commandId);
  entry.status = message.payload.status;
  entry.result = message.payload.result ?? null;
  entry.finishedAt = new Date().toISOString();
  send(socket, 'command_status', entry);
}

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]) });
server.on('connection', (socket, request) => {
  socket.on('error', () => {});
  const url = new URL(request.url, 'http://localhost');
  const id = url.searchParams.get('device');
  if (id !== null) {
    devices.set(id, socket);
    socket.on('close', () => devices.delete(id));
    socket.on('message', (data) => fromDevice(JSON.parse(data)));
  } else {
    socket.on('message', (data) => fromController(socket, JSON.parse(data)));
  }
});
server.on('listening', () => console.log('ready'));
