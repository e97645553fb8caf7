---@meta

-- WebSockets (RFC 6455). read and write: sock.lua.

---@class ba.socket.websocket_options
---@field role "server"|"client"
---@field maxframe? integer bytes of the longest frame, both ways; default 65535
---@field messages? boolean read gives whole messages, empty ones too, and checks that text is UTF-8; default false
---@field maxsize? integer bytes of the longest message received, with messages; default 1048576
---@field ping? number seconds without a byte until the peer is asked for one; default 0: never
---@field deflate? {send_takeover?: boolean, receive_takeover?: boolean, send_bits?: integer, receive_bits?: integer} compression, with messages
---@field halfclose? boolean an empty message ends a direction; default false

---From here on sock is a WebSocket; the HTTP handshake has been made before. Extension.
---@param sock ba.socket
---@param options ba.socket.websocket_options
---@return true? ok
---@return ba.socket.error? err
function ba.socket.websocket(sock, options) end

---@class ba.socket
local Socket = {}

---Whether it is a WebSocket.
---@return boolean
function Socket:websocket() end

---Raises an error when it is no WebSocket.
---@param data? string at most 125 bytes
---@return true? ok
---@return ba.socket.error? err
function Socket:ping(data) end
