---@meta

-- The page host (docs/pages.md): requests as sockets, authenticators. What a page sees is in request.lua.

---Turns a page's request into its socket: a WebSocket if it asks for one (answered with 101), else the connection as it is, and the
---bytes that came behind the head. Errors: incorrectuse, iscommitted, and why a WebSocket's handshake is refused.
---@param request ba.request
---@param subprotocol? string
---@return ba.socket? sock in blocking mode
---@return string? data or the error
function ba.socket.req2sock(request, subprotocol) end

---Gives a connection that req2sock took back to the page host, with what was read of its next request.
---Errors: incorrectuse.
---@param sock ba.socket
---@param data? string
---@return true? ok
---@return ba.socket.error? err
function ba.socket.sock2req(sock, data) end

---@class ba.authuser

---Who may come in: f returns the right password; or true, when it has found the given one right; else nothing.
---@param f fun(username: string, password: string?): string|boolean|nil password is nil with Digest
---@return ba.authuser
function ba.create.authuser(f) end

---@class ba.authenticator
---@field authenticate fun(self: ba.authenticator, request: ba.request, env: table): string? the user; nil: the request is answered

---@param users ba.authuser
---@param options? {type?: "auth"|"basic"|"digest"|"form", realm?: string, response?: fun(env: table, info: table)}
---@return ba.authenticator
function ba.create.authenticator(users, options) end
