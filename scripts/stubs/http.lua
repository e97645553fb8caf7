---@meta

-- Extension: HTTP/1 on any socket: heads and bodies as they come, heads as text.

ba.http = {}

---@alias ba.http.fields string[][] {{name, value}, ...}
---@alias ba.http.header table<string, string|number|(string|number)[]>|ba.http.fields

---@class ba.http.limits
---@field line? integer bytes, default 8192
---@field head? integer bytes, default 65536
---@field fields? integer default 100

---@class ba.http.head
---@field method string of a request
---@field target string of a request
---@field expect boolean of a request: the body is sent after a 100
---@field status integer of a response
---@field reason string of a response
---@field version string "1.0", "1.1"
---@field fields ba.http.fields as sent
---@field header table<string, string> names in lower case, repeated fields as one list; not Set-Cookie
---@field keepalive boolean
---@field upgrade boolean
---@field body "none"|"length"|"chunked"|"close"
---@field length integer? with "length"

---@class ba.http.reader
local Reader = {}

---A reader of the messages that come to a connected socket. One at a time for a socket.
---@param sock ba.socket
---@param kind "request"|"response"
---@param limits? ba.http.limits
---@return ba.http.reader
function ba.http.reader(sock, kind, limits) end

---The next head. Errors: socketclosed, timeout and those of read; badrequest or invalidresponse with the status to answer; incorrectuse
---(the body of the last one was not read to its end).
---@param ms? number for the whole head
---@param method? string of the request that a response answers
---@return ba.http.head? head
---@return ba.socket.error? err
---@return integer? status what a server answers
---@return string? why
function Reader:head(ms, method) end

---The next piece of the body; nil at its end.
---@param max? integer bytes, at most 65536
---@param ms? number
---@return string? piece
---@return ba.socket.error? err as those of head
---@return integer? status
---@return string? why
function Reader:body(max, ms) end

---What came behind the last chunk.
---@return ba.http.fields
function Reader:trailers() end

---Waits until a message begins.
---@param ms? number
---@return true? ok
---@return ba.socket.error? err
function Reader:wait(ms) end

---The head of a request. Error: invalidparam.
---@param method string
---@param target string
---@param header ba.http.header
---@param version? "1.1"|"1.0"
---@return string? text
---@return ba.socket.error? err
---@return string? why
function ba.http.request(method, target, header, version) end

---The head of a response. Error: invalidparam.
---@param status integer
---@param header ba.http.header
---@param reason? string
---@return string? text
---@return ba.socket.error? err
---@return string? why
function ba.http.response(status, header, reason) end

---What usually follows a status; "" if nothing does.
---@param status integer
---@return string
function ba.http.reason(status) end
