---@meta

-- WebSockets: not part of this version; scripts ask.

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
