---@meta

-- Datagrams.

---@class ba.socket.udpcon_options
---@field intf? string local IP address or interface name
---@field port? integer local port
---@field ipv6? boolean

---A datagram socket: udpcon(host, port [, options]) connected; udpcon(port [, options]) bound to a local port; udpcon() neither.
---Errors: cannotresolve, bind, incorrectuse, mem.
---@param address? string|integer|ba.socket.udpcon_options
---@param port? integer|ba.socket.udpcon_options
---@param options? ba.socket.udpcon_options
---@return ba.socket? sock
---@return ba.socket.error? err
function ba.socket.udpcon(address, port, options) end

---@class ba.socket
local Socket = {}

---A datagram to an address; the socket is not connected. Never waits. Errors: invalidparam (no IP address), failed.
---@param data string|ba.bytearray
---@param ip string no name
---@param port integer
---@return true? ok
---@return ba.socket.error? err
function Socket:sendto(data, ip, port) end
