-- The opening handshake of WebSockets (RFC 6455 4), on heads of ba.http.reader. From it on the socket is a WebSocket
-- (ba.socket.websocket).
--
--   local head = ba.http.reader(sock, "request"):head(10000)
--   if head and websocket.accept(sock, head, {subprotocols = {"chat"}}) then ... sock:read() ... end
local config = require "cosock.options"

local websocket = {}

local INTERIM_MAX = 10 -- responses of 1xx before the answer
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

-- ---- compression (permessage-deflate, RFC 7692) ----
--
-- options.deflate: true, or {takeover = true, bits = 9 ... 15}. takeover: messages may refer to those before, which costs each
-- connection up to 300 KiB; without it nothing is kept between two messages.

local FLAG = {server_no_context_takeover = true, client_no_context_takeover = true}
local BITS = {server_max_window_bits = true, client_max_window_bits = true}

-- "permessage-deflate; a; b=10" as {a = true, b = 10}; nil when it is another extension, or says what must not be said.
local function parse_extension(text, answer)
  local name, rest = text:match "^%s*([^%s;]+)%s*(.*)$"
  if name ~= "permessage-deflate" then return nil end
  local found = {}
  for parameter in rest:gmatch ";%s*([^;]*)" do
    local key, value = parameter:match "^([%w_]+)%s*=%s*\"?(%d+)\"?%s*$"
    key = key or parameter:match "^([%w_]+)%s*$"
    if not key or found[key] ~= nil then return nil end
    if FLAG[key] and not value then
      found[key] = true
    elseif BITS[key] and value and value:find "^[89]$" or BITS[key] and value and value:find "^1[0-5]$" then
      found[key] = tonumber(value)
    elseif key == "client_max_window_bits" and not value and not answer then
      found[key] = true
    else
      return nil
    end
  end
  return found
end

local function deflate_options(given)
  given = type(given) == "table" and given or {}
  local bits = given.bits or 15
  if math.type(bits) ~= "integer" or bits < 9 or bits > 15 then error("deflate.bits: expected 9 to 15", 3) end
  return given.takeover == true, bits
end

-- What of the client's offers is taken: the field of the answer and the option of ba.socket.websocket.
local function accept_deflate(offers, given)
  local takeover, bits = deflate_options(given)
  for text in (offers or ""):gmatch "[^,]+" do
    local o = parse_extension(text)
    if o and (o.server_max_window_bits or 15) >= 9 then
      local parts = {"permessage-deflate"}
      local agreed = {send_takeover = takeover and not o.server_no_context_takeover, receive_takeover = takeover and not o.client_no_context_takeover,
                      send_bits = math.min(bits, o.server_max_window_bits or bits)}
      if not agreed.send_takeover then parts[#parts + 1] = "server_no_context_takeover" end
      if not agreed.receive_takeover then parts[#parts + 1] = "client_no_context_takeover" end
      if agreed.send_bits < 15 then parts[#parts + 1] = "server_max_window_bits=" .. agreed.send_bits end
      if o.client_max_window_bits then
        agreed.receive_bits = math.max(math.min(bits, tonumber(o.client_max_window_bits) or bits), 9)
        if agreed.receive_bits < 15 then parts[#parts + 1] = "client_max_window_bits=" .. agreed.receive_bits end
      end
      return table.concat(parts, "; "), agreed
    end
  end
end

local function offer_deflate(given)
  local takeover, bits = deflate_options(given)
  return "permessage-deflate" .. (takeover and "" or "; server_no_context_takeover; client_no_context_takeover") ..
    (bits < 15 and "; server_max_window_bits=" .. bits or "") .. "; client_max_window_bits"
end

-- The option of ba.socket.websocket, or nil and why the answer is not one to our offer.
local function check_deflate(answer, given)
  local takeover, bits = deflate_options(given)
  local o = parse_extension(answer, true)
  if not o then return nil, "an extension that was not asked for" end
  if not takeover and not o.server_no_context_takeover or (o.server_max_window_bits or 15) > bits or (o.client_max_window_bits or 15) < 9 then
    return nil, "compression other than it was asked for"
  end
  return {send_takeover = takeover and not o.client_no_context_takeover, receive_takeover = takeover and not o.server_no_context_takeover,
          send_bits = o.client_max_window_bits, receive_bits = math.max(o.server_max_window_bits or 15, 9)}
end

-- ---- server ----

-- The first that the client names and we speak.
local function choose(offered, ours)
  for name in words(offered) do
    if is_among(name, ours) then return name end
  end
end

-- A list of origins as a configuration gives it, for `origins` below; raises when one is none. nil: nil.
function websocket.origins(given)
  if given == nil then return nil end
  local list = {}
  for i, origin in ipairs(config.list("origins", given)) do
    if not tostring(origin):find "^%a[%w+.-]*://[^/]+$" and origin ~= "*" then
      error(("origins: %q is not one (https://host)"):format(tostring(origin)), 0)
    end
    list[i] = origin:lower()
  end
  return list
end

-- Whether a page of this origin is among them; "*" stands for all.
function websocket.is_origin(origin, list) return is_among("*", list) or is_among(origin:lower(), list) end

-- Whether a request asks for a WebSocket, well-formed or not.
function websocket.is_request(head) return has(head.header.upgrade, "websocket") == true end

-- What a request for a WebSocket is answered: {header = {name = value}, subprotocol = string or nil, deflate = agreed or nil}. nil, status,
-- why when it is to be refused, and with what. Nothing is sent.
-- options.subprotocols  a list: those we speak; the client's order decides
-- options.required      without one of them: refused
-- options.deflate       compression, when the client offers it; only with messages = true
-- options.origins       a list of websocket.origins: web pages of other origins are refused (RFC 6455 10.2); without it none is
function websocket.answer(head, options)
  options = options or {}
  local h = head.header
  if head.method ~= "GET" or head.version ~= "1.1" or head.body ~= "none" then return nil, 400, "not a GET of HTTP/1.1" end
  if not websocket.is_request(head) or not has(h.connection, "upgrade") then return nil, 426, "not a request for a WebSocket" end
  if h["sec-websocket-version"] ~= "13" then return nil, 426, "not version 13 of the protocol" end
  local key = h["sec-websocket-key"]
  if not key or #key ~= 24 or #(ba.b64decode(key) or "") ~= 16 then return nil, 400, "no valid Sec-WebSocket-Key" end
  if options.origins and h.origin and not websocket.is_origin(h.origin, options.origins) then
    return nil, 403, "pages of this origin may not connect"
  end
  local subprotocol = choose(h["sec-websocket-protocol"], options.subprotocols)
  if options.required and not subprotocol then return nil, 400, "no subprotocol that is spoken here" end
  local header = {Upgrade = "websocket", Connection = "Upgrade", ["Sec-WebSocket-Accept"] = accept_key(key),
                  ["Sec-WebSocket-Protocol"] = subprotocol}
  local deflate
  if options.deflate then header["Sec-WebSocket-Extensions"], deflate = accept_deflate(h["sec-websocket-extensions"], options.deflate) end
  return {header = header, subprotocol = subprotocol, deflate = deflate}
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

local function become(sock, role, options, deflate)
  local op = {}
  for name, value in pairs(options) do op[name] = value end
  op.role, op.deflate = role, deflate
  return ba.socket.websocket(sock, op)
end

-- Answers the request and makes sock a WebSocket. options: those of websocket.answer and of ba.socket.websocket; header: more fields of
-- the answer, {name = value}. {subprotocol =, deflate =}; nil, "badrequest", status, why when it was refused (and sock closed); nil, err.
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
  if ok then ok, err = become(sock, "server", options, answer.deflate) end
  if not ok then return nil, err end
  return {subprotocol = answer.subprotocol, deflate = answer.deflate}
end

-- ---- client ----

-- Adds the fields of a request for a WebSocket to `header`, a list {{name, value}, ...}; what they promise, for websocket.check.
-- options.subprotocols  a list of those to offer
-- options.deflate       compression is offered
function websocket.offer(header, options)
  options = options or {}
  local subprotocols = options.subprotocols
  local offer = {key = ba.b64encode(ba.rndbs(16)), subprotocols = subprotocols, deflate = options.deflate}
  local fields = {{"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Key", offer.key}, {"Sec-WebSocket-Version", "13"}}
  if subprotocols and subprotocols[1] then fields[5] = {"Sec-WebSocket-Protocol", table.concat(subprotocols, ", ")} end
  if options.deflate then fields[#fields + 1] = {"Sec-WebSocket-Extensions", offer_deflate(options.deflate)} end
  for _, field in ipairs(fields) do header[#header + 1] = field end
  return offer
end

-- Whether the answer keeps to the offer: {subprotocol = string or nil, deflate = agreed or nil}; nil, "invalidresponse", why.
function websocket.check(head, offer)
  local h = head.header
  local function no(why) return nil, "invalidresponse", why end
  if head.status ~= 101 then return no("status " .. tostring(head.status)) end
  if not has(h.upgrade, "websocket") or not has(h.connection, "upgrade") then return no "no upgrade to a WebSocket" end
  if h["sec-websocket-accept"] ~= accept_key(offer.key) then return no "a wrong Sec-WebSocket-Accept" end
  local extensions, deflate, why = h["sec-websocket-extensions"], nil, nil
  if extensions and not offer.deflate then return no "an extension that was not asked for" end
  if extensions then
    deflate, why = check_deflate(extensions, offer.deflate)
    if not deflate then return no(why) end
  end
  local subprotocol = h["sec-websocket-protocol"]
  if subprotocol and not is_among(subprotocol, offer.subprotocols) then return no "a subprotocol that was not offered" end
  return {subprotocol = subprotocol, deflate = deflate}
end

-- Both, on a connected socket, which then is a WebSocket: {subprotocol =, deflate =}; nil, err, why; then the caller closes.
-- host, target: of the request. options: header (a list {{name, value}, ...}), subprotocols, deflate, required, timeout (ms), and those of
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
  local reader = ba.http.reader(sock, "response")
  for _ = 1, INTERIM_MAX do
    head, err, status, why = reader:head(options.timeout, "GET")
    if not head or head.status == 101 or head.status >= 200 then break end
  end
  if not head then return nil, err, why or status end
  agreed, err, why = websocket.check(head, offer)
  if not agreed then return nil, err, why end
  if options.required and not agreed.subprotocol then return nil, "invalidresponse", "no subprotocol" end
  ok, err = become(sock, "client", options, agreed.deflate)
  if not ok then return nil, err end
  return agreed
end

return websocket
