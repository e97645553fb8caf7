-- The opening handshake of WebSockets (RFC 6455 4), on heads of ba.http.reader. From it on the socket is a WebSocket
-- (ba.socket.websocket).
--
--   local head = ba.http.reader(sock, "request"):head(10000)
--   if head and websocket.accept(sock, head, {subprotocols = {"chat"}}) then ... sock:read() ... end
local websocket = {}

local GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

local function accept_key(key) return ba.crypto.hash "sha1"(key .. GUID)(true, "b64") end

-- The words of a comma-separated list.
local function words(text) return (text or ""):gmatch "[^%s,]+" end

-- Names of protocols of HTTP in any case.
local function has(text, word)
  for w in words(text) do
    if w:lower() == word then return true end
  end
end

local function is_among(value, list)
  for _, v in ipairs(list or {}) do
    if v == value then return true end
  end
end

-- ---- server ----

-- The first that the client names and we speak.
local function choose(offered, ours)
  for name in words(offered) do
    if is_among(name, ours) then return name end
  end
end

-- Whether a request asks for a WebSocket, well-formed or not.
function websocket.is_request(head) return has(head.header.upgrade, "websocket") == true end

-- What a request for a WebSocket is answered: {header = {name = value}, subprotocol = string or nil}. nil, status, why when it is to be
-- refused, and with what. Nothing is sent.
-- options.subprotocols  a list: those we speak; the client's order decides
-- options.required      without one of them: refused
-- options.origins       a list of "https://example.com": web pages of other origins are refused (RFC 6455 10.2)
function websocket.answer(head, options)
  options = options or {}
  local h = head.header
  if head.method ~= "GET" or head.version ~= "1.1" or head.body ~= "none" then return nil, 400, "not a GET of HTTP/1.1" end
  if not websocket.is_request(head) or not has(h.connection, "upgrade") then return nil, 426, "not a request for a WebSocket" end
  if h["sec-websocket-version"] ~= "13" then return nil, 426, "not version 13 of the protocol" end
  local key = h["sec-websocket-key"]
  if not key or #key ~= 24 or #(ba.b64decode(key) or "") ~= 16 then return nil, 400, "no valid Sec-WebSocket-Key" end
  if options.origins and h.origin and not is_among(h.origin:lower(), options.origins) then
    return nil, 403, "pages of this origin may not connect"
  end
  local subprotocol = choose(h["sec-websocket-protocol"], options.subprotocols)
  if options.required and not subprotocol then return nil, 400, "no subprotocol that is spoken here" end
  local header = {Upgrade = "websocket", Connection = "Upgrade", ["Sec-WebSocket-Accept"] = accept_key(key),
                  ["Sec-WebSocket-Protocol"] = subprotocol}
  return {header = header, subprotocol = subprotocol}
end

-- Answers that there will be no WebSocket, and closes.
function websocket.refuse(sock, status, why)
  local text = (why or ba.http.reason(status)) .. "\n"
  local header = {["Content-Type"] = "text/plain; charset=utf-8", ["Content-Length"] = #text, Connection = "close"}
  if status == 426 then
    header.Upgrade, header.Connection, header["Sec-WebSocket-Version"] = "websocket", "close, Upgrade", "13"
  end
  sock:write(ba.http.response(status, header) .. text)
  sock:close()
end

local function become(sock, role, options)
  local op = {role = role}
  for name, value in pairs(options or {}) do
    if op[name] == nil then op[name] = value end
  end
  return ba.socket.websocket(sock, op)
end

-- Answers the request and makes sock a WebSocket. options: those of websocket.answer and of ba.socket.websocket; header: more fields of
-- the answer, {name = value}. {subprotocol = string or nil}; nil, "badrequest", status, why when it was refused (and sock closed); nil, err.
function websocket.accept(sock, head, options)
  options = options or {}
  local answer, status, why = websocket.answer(head, options)
  if not answer then
    websocket.refuse(sock, status, why)
    return nil, "badrequest", status, why
  end
  for name, value in pairs(options.header or {}) do answer.header[name] = value end
  local text, err
  text, err, why = ba.http.response(101, answer.header)
  if not text then return nil, err, why end
  local ok
  ok, err = sock:write(text)
  if ok then ok, err = become(sock, "server", options) end
  if not ok then return nil, err end
  return {subprotocol = answer.subprotocol}
end

-- ---- client ----

-- Adds the fields of a request for a WebSocket to `header`, a list {{name, value}, ...}; what they promise, for websocket.check.
-- options.subprotocols  a list of those to offer
function websocket.offer(header, options)
  local subprotocols = options and options.subprotocols
  local offer = {key = ba.b64encode(ba.rndbs(16)), subprotocols = subprotocols}
  local fields = {{"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Key", offer.key}, {"Sec-WebSocket-Version", "13"}}
  if subprotocols and subprotocols[1] then fields[5] = {"Sec-WebSocket-Protocol", table.concat(subprotocols, ", ")} end
  for _, field in ipairs(fields) do header[#header + 1] = field end
  return offer
end

-- Whether the answer keeps to the offer: {subprotocol = string or nil}; nil, "invalidresponse", why.
function websocket.check(head, offer)
  local h = head.header
  local function no(why) return nil, "invalidresponse", why end
  if head.status ~= 101 then return no("status " .. tostring(head.status)) end
  if not has(h.upgrade, "websocket") or not has(h.connection, "upgrade") then return no "no upgrade to a WebSocket" end
  if h["sec-websocket-accept"] ~= accept_key(offer.key) then return no "a wrong Sec-WebSocket-Accept" end
  if h["sec-websocket-extensions"] then return no "an extension that was not asked for" end
  local subprotocol = h["sec-websocket-protocol"]
  if subprotocol and not is_among(subprotocol, offer.subprotocols) then return no "a subprotocol that was not offered" end
  return {subprotocol = subprotocol}
end

-- Both, on a connected socket, which then is a WebSocket: {subprotocol = string or nil}; nil, err, why; then the caller closes.
-- host, target: of the request. options: header (a list {{name, value}, ...}), subprotocols, required, timeout (ms), and those of
-- ba.socket.websocket.
function websocket.connect(sock, host, target, options)
  options = options or {}
  local header = {{"Host", host}, table.unpack(options.header or {})}
  local offer = websocket.offer(header, options)
  local text, err, why = ba.http.request("GET", target, header)
  if not text then return nil, err, why end
  local ok, head, agreed, status
  ok, err = sock:write(text)
  if not ok then return nil, err end
  head, err, status, why = ba.http.reader(sock, "response"):head(options.timeout, "GET")
  if not head then return nil, err, why or status end
  agreed, err, why = websocket.check(head, offer)
  if not agreed then return nil, err, why end
  if options.required and not agreed.subprotocol then return nil, "invalidresponse", "no subprotocol" end
  ok, err = become(sock, "client", options)
  if not ok then return nil, err end
  return agreed
end

return websocket
