---@meta

-- The page host (docs/pages.md): requests as sockets, authenticators. What a page sees is in request.lua.

---Turns a page's request into its socket: a WebSocket if it asks for one (answered with 101), else the connection as it is, and the
---bytes that came behind the head. Errors: incorrectuse, iscommitted, and why a WebSocket's handshake is refused.
---@param request ba.request
---@param subprotocol? string
---@param options? table of ba.socket.websocket, deflate, and origins in place of the service's
---@return ba.socket? sock in blocking mode
---@return string? data or the error
function ba.socket.req2sock(request, subprotocol, options) end

---Gives a connection that req2sock took back to the page host, with what was read of its next request.
---Errors: incorrectuse.
---@param sock ba.socket
---@param data? string
---@return true? ok
---@return ba.socket.error? err
function ba.socket.sock2req(sock, data) end

---@class ba.authuser
---@field getpwd fun(self: ba.authuser, username: string): string|string[]|nil, ...

---Who may come in: f returns the right password, or a list with its HA1; or true, when it has found the given one right; else nothing.
---@param f fun(username: string, password: string?, env: table): string|string[]|boolean|nil password is nil with Digest
---@return ba.authuser
function ba.create.authuser(f) end

---@class ba.authenticator
---@field authenticate fun(self: ba.authenticator, request: ba.request): string? the user; nil: the request is answered

---@param users ba.authuser
---@param options? {type?: "auth"|"basic"|"digest"|"form", realm?: string, response?: fun(env: table, info: table)}
---@return ba.authenticator
function ba.create.authenticator(users, options) end

---@class ba.authorizer
---@field authorize fun(self: ba.authorizer, request: ba.request, method: string, path: string): boolean

---@param f fun(username: string?, method: string, path: string, session: ba.session?): boolean?
---@return ba.authorizer
function ba.create.authorizer(f) end

---@class ba.jsonuser: ba.authuser
---@field set fun(self: ba.jsonuser, users: string|table<string, {pwd: string|string[], roles: string[], inactive?: integer}>): true?, string?
---@field authorizer fun(self: ba.jsonuser): ba.jsonauthorizer

---@class ba.jsonauthorizer: ba.authorizer
---@field set fun(self: ba.jsonauthorizer, rules: string|table<string, {urls: string[], methods: string[], roles: string[]}>): true?, string?
---@field casesensitive fun(self: ba.jsonauthorizer, on?: boolean): boolean

---Users in a table or JSON, and rights for them.
---@return ba.jsonuser
function ba.create.jsonuser() end

---@class ba.upload
---@field name fun(self: ba.upload): string
---@field url fun(self: ba.upload): string
---@field multipart fun(self: ba.upload): boolean
---@field session fun(self: ba.upload): ba.session?
---@field response fun(self: ba.upload): ba.deferred

---Uploads into a folder: upload(request, path, start, complete, error, env), which does not return.
---@param io ba.io
---@param number integer at a time
---@return fun(request: ba.request, path: string, start?: fun(env: table, upload: ba.upload), complete?: fun(env: table, upload: ba.upload), error?: fun(env: table, upload: ba.upload, err: string, more: string), env?: table)
function ba.create.upload(io, number) end

---A page as Lua for load: call the function with (_ENV, pathname, io, page, app), where _ENV._emit(text) writes.
---@param text string
---@return string? lua
---@return string? err
function ba.parselsp(text) end

---A place in the URLs of an application.
---@class ba.dir
---@field insert fun(self: ba.dir, dir?: ba.dir): true?, "alreadyinserted"|"incorrectuse"|nil
---@field insertprolog fun(self: ba.dir, dir: ba.dir): true?, "alreadyinserted"|"incorrectuse"|nil
---@field unlink fun(self: ba.dir): true?, "incorrectuse"?
---@field name fun(self: ba.dir): string?
---@field baseuri fun(self: ba.dir): string
---@field setfunc fun(self: ba.dir, f: fun(env: table, path: string): boolean?): true
---@field service fun(self: ba.dir, request: ba.request, path: string, forward?: boolean): boolean
---@field setauth fun(self: ba.dir, authenticator?: ba.authenticator, authorizer?: ba.authorizer): true
---@field p403 fun(self: ba.dir, path: string)
---@field redirect2tls fun(self: ba.dir): true
---@field header fun(self: ba.dir, fields: table<string, string>)
---@field maxage fun(self: ba.dir, seconds: integer)

---@param name? string
---@param priority? integer
---@return ba.dir
function ba.create.dir(name, priority) end

---@class ba.resrdr: ba.dir
---@field lspfilter fun(self: ba.resrdr, app?: table)
---@field io fun(self: ba.resrdr): ba.io
---@field getapp fun(self: ba.resrdr): table?

---The files of an io object. Name and priority may be left out.
---@param name string
---@param priority integer
---@param io ba.io
---@return ba.resrdr
---@overload fun(io: ba.io): ba.resrdr
---@overload fun(name: string, io: ba.io): ba.resrdr
---@overload fun(priority: integer, io: ba.io): ba.resrdr
function ba.create.resrdr(name, priority, io) end
