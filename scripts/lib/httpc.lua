-- A client for HTTP/1.1 and the way into WebSockets: one connection, one request at a time. In the API of the Barracuda App
-- Server; docs/httpc.md says all of it.
--
--   local h = require "httpc".create()
--   local ok, err = h:request {url = "https://example.com/"}
--   if ok and h:status() == 200 then print(h:read "a") end
--
-- Called from jobs, cosockets, pages, timers: the calls wait for their own coroutine only. The connection is a socket of its own,
-- never that of the cosocket which calls.
local credentials = require "cosock.credentials"
local proxy = require "cosock.proxy"
local url = require "cosock.url"

local httpc, methods = {}, {}

local PIECE = 65536        -- bytes that are written before we look for an answer
local LOOK_MS = 100        -- or so long after the last look
local REST_MAX = 262144    -- bytes of an answer nobody wants that are read to keep the connection
local REST_MS = 500        -- ... and for how long
local MAXSIZE = 64 << 20   -- of read "a"
local CONTINUE_MS = 1000   -- how long to wait for a 100 before the body is sent anyway
local INTERIM_MAX = 16     -- 1xx heads before the answer
local LONGEST_MS = 3240000 -- the longest time-out
local NEVER_MS = 0xffffffff
local SECURE = {https = true, wss = true}
local SOCKET = {ws = true, wss = true}
local WITH_BODY = {POST = true, PUT = true, PATCH = true}
local ENDS = {socketclosed = true, socketreadfailed = true, socketwritefailed = true}
local AGAIN = {GET = true, HEAD = true, OPTIONS = true, TRACE = true} -- may be sent twice

-- How the body is framed, and a WebSocket's handshake: ours alone.
local FRAMING = {["content-length"] = true, ["transfer-encoding"] = true}
local HANDSHAKE = {connection = true, upgrade = true, ["sec-websocket-key"] = true, ["sec-websocket-version"] = true,
                   ["sec-websocket-extensions"] = true}

local OPTIONS = {shark = "userdata", persistent = "boolean", intf = "string", ipv6 = "boolean", proxy = "string",
                 socks = "boolean", proxyuser = "string", proxypass = "string", proxycon = "boolean",
                 maxsize = "number"}
local REQUEST = {url = "string", method = "string", header = "table", query = "table", user = "string", password = "string",
                 size = "number", trusted = "boolean"}

local function check(op, types, what)
  if type(op) ~= "table" then error(("%s: expected a table, got %s"):format(what, type(op)), 3) end
  for name, expected in pairs(types) do
    local value = op[name]
    if value ~= nil and type(value) ~= expected then
      error(("%s: %s: expected %s, got %s"):format(what, name, expected, type(value)), 3)
    end
  end
end

-- ---- the connection ----

local function drop(self)
  if self.sock then self.sock:close() end
  self.sock, self.reader = nil, nil
end

-- Whatever else goes wrong is told by the calls that follow, too.
local function fail(self, err, why)
  drop(self)
  self.failed = err
  return nil, err, why
end

local function secure(self, sock, to, trusted)
  local ok, err, why = sock:upgrade(self.op.shark or ba.sharkclient(),
                                    {host = to.host, trusted = trusted, timeout = self.ms or NEVER_MS})
  if ok then return sock end
  sock:close()
  return nil, err, why
end

local function through_proxy(self, to, trusted)
  local via = self.proxy
  via.ms, via.timeout = self.ms, self.ms or NEVER_MS
  local sock, err = proxy.connect(via, to.host, to.port)
  if not sock then return nil, err end
  if self.op.proxycon then
    self.sock = sock
    return nil, "prxready"
  end
  if SECURE[to.scheme] then return secure(self, sock, to, trusted) end
  return sock
end

local function connect(self, to, trusted)
  local op = self.op
  if self.proxy then return through_proxy(self, to, trusted) end
  local tls = SECURE[to.scheme]
  return ba.socket.connect(to.host, to.port, {timeout = self.ms or NEVER_MS, intf = op.intf, ipv6 = op.ipv6, blocking = true,
                                              shark = tls and (op.shark or ba.sharkclient()) or nil, trusted = tls and trusted})
end

-- The connection of the last request, if it leads to the same place and the server has not ended it. True, or nil.
local function reuse(self, to, trusted)
  if not self.sock or self.place ~= to.place then return nil end
  local _, err = self.reader:head(0)
  if err ~= "timeout" or trusted and not self.sock:trusted() then return nil end
  return true
end

-- Gives self.sock. True; nil, err, why.
local function open(self, to, trusted)
  if reuse(self, to, trusted) then return true end
  drop(self)
  local sock, err, why = connect(self, to, trusted)
  if not sock then return nil, err, why end
  self.sock, self.place, self.reader = sock, to.place, ba.http.reader(sock, "response")
  return true
end

-- ---- the answer ----

local function take(self, head)
  self.head, self.more = head, head.body ~= "none"
  self.keep = head.keepalive and self.op.persistent ~= false
  return true
end

-- The server has answered in the middle of the request, and wants no more of it. (One that says yes may go on reading.)
local function refused(self) return self.upload and self.head and self.head.status >= 300 end

-- Reads the head of the answer; true once it is there. A 100 is passed over, but returned as false when until_continue is true.
-- ms: for each head.
local function read_head(self, ms, until_continue)
  local reader = self.reader
  if not reader then return nil, self.failed end -- closed meanwhile, by somebody else
  for _ = 1, INTERIM_MAX do
    local head, err, _, why = reader:head(ms, self.method)
    if not head then return nil, err, why end
    if head.status >= 200 or head.status == 101 then return take(self, head) end
    if until_continue and head.status == 100 then return false end
  end
  return nil, "invalidresponse"
end

-- Writes with the time-out, which ends the connection. The answer may say why the server does not read.
local function send(self, data)
  if not self.sock then return nil, self.failed end -- closed meanwhile, by somebody else
  local timer = self.ms and ba.timer(function()
    read_head(self, 0)
    fail(self, "timeout")
  end)
  if timer then timer:set(self.ms) end
  local ok, err = self.sock:write(data)
  if timer then timer:cancel() end
  if ok then return true end
  return nil, self.failed or err
end

-- Ends the request if it has a body, and waits for the head of the answer. True; nil, err.
local function response(self)
  if self.failed and not self.head or not self.method then return nil, self.failed or "incorrectuse" end
  local ok, err = true, nil
  if self.upload and not self.failed and not refused(self) then
    if math.type(self.upload) == "integer" and self.upload > 0 then return fail(self, "incorrectuse") end -- less than announced
    if self.upload == "chunked" then ok, err = send(self, "0\r\n\r\n") end
    if ok then self.upload = nil end
  end
  if self.head then return true end
  local there, broken, why = read_head(self, self.ms) -- also after a failed write: there may be an answer that says why
  if there then return true end
  return fail(self, err or broken, why)
end

-- The next piece of the answer's body; nil at its end; nil, err. ms: if not the time-out.
local function piece(self, max, ms)
  if self.failed then return nil, self.failed end
  if not self.more then return nil end
  local data, err = self.reader:body(max, ms or self.ms)
  if data then return data end
  self.more = false
  if err then return fail(self, err) end
end

-- Leaves an exchange behind: reads what is left of a short answer, else ends the connection.
local function finish(self)
  if self.sock and not self.failed and response(self) then
    local left, deadline = REST_MAX, ba.clock() + REST_MS
    while self.more and left > 0 do left = left - #(piece(self, left, math.max(deadline - ba.clock(), 0)) or "") end
  end
  if self.more or not self.keep or self.upload or self.failed or self.head.status == 101 then drop(self) end
  self.failed = nil -- what went wrong with that one
end

-- ---- requests ----

-- The fields the caller gives, and ours where it has none of that name: a list of {name, value}; the names that are there, in
-- lower case.
local function fields(self, op, to)
  local given, list, names = {}, {}, {}
  local function add(name, value)
    given[name:lower()] = true
    list[#list + 1] = {name, tostring(value)}
  end
  for name in pairs(op.header or {}) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    local ours = FRAMING[name:lower()] or SOCKET[to.scheme] and HANDSHAKE[name:lower()]
    local value = not ours and op.header[name] or nil
    for _, one in ipairs(type(value) == "table" and value or {value}) do add(name, one) end
  end
  local function default(name, value)
    if value and not given[name:lower()] then add(name, value) end
  end
  default("Host", url.authority(to))
  default("User-Agent", "cosockd")
  default("Accept", "*/*")
  default("Content-Length", math.type(self.upload) == "integer" and self.upload)
  default("Transfer-Encoding", self.upload == "chunked" and "chunked")
  default("Connection", self.op.persistent == false and not SOCKET[to.scheme] and "close")
  default("Authorization", self.credentials and self.credentials:answer(self.method, to.target))
  return list, given
end

-- Adds what asks for a WebSocket. The caller offers subprotocols by a field.
local function offer_websocket(self, list)
  local subprotocols = {}
  for _, field in ipairs(list) do
    for name in (field[1]:lower() == "sec-websocket-protocol" and field[2] or ""):gmatch "[^%s,]+" do
      subprotocols[#subprotocols + 1] = name
    end
  end
  self.offer = require "cosock.websocket".offer(list)
  self.offer.subprotocols = subprotocols
end

-- What is to be written: nil for nothing, "chunked", or the number of bytes.
local function upload_of(op, method)
  local size = op.size
  for name, value in pairs(op.header or {}) do
    if tostring(name):lower() == "content-length" then size = tonumber(value) end
  end
  if size then return math.max(math.tointeger(size // 1) or 0, 0) end
  return WITH_BODY[method] and "chunked" or nil
end

-- Connects if need be and sends the head of the request. Reads that of the answer when there is no body to be written. True;
-- nil, err, why.
local function attempt(self, op, to)
  self.head, self.unseen, self.looked = nil, 0, 0
  local ok, err, why = open(self, to, op.trusted)
  if not ok then return nil, err, why end
  self.upload = not SOCKET[to.scheme] and upload_of(op, self.method) or nil
  local list, given = fields(self, op, to)
  local body = self.upload and self.upload ~= 0
  if body and self.credentials and not given.authorization and not given.expect then
    list[#list + 1] = {"Expect", "100-continue"} -- the server may want to know who we are first
    given.expect = true
  end
  if SOCKET[to.scheme] then offer_websocket(self, list) end
  local text
  text, err, why = ba.http.request(self.method, to.target, list)
  if not text then return nil, err, why end
  ok, err = send(self, text)
  if ok and not body then return response(self) end
  if ok and given.expect then read_head(self, math.min(CONTINUE_MS, self.ms or CONTINUE_MS), true) end
  return ok, err
end

-- The same again on a new connection when the server has ended the old one meanwhile.
local function try(self, op, to)
  local used = self.sock ~= nil
  local ok, err, why = attempt(self, op, to)
  if not ok and used and ENDS[err] and AGAIN[self.method] then
    drop(self)
    self.failed = nil
    return attempt(self, op, to)
  end
  return ok, err, why
end

-- Who asks for users and passwords is answered; kept for the next request to the same place.
local function set_credentials(self, op, to)
  local user, password = op.user or to.user, op.password or to.password
  local id = user and table.concat({to.place, user, password or ""}, "\0")
  if id ~= self.id then self.id, self.credentials = id, user and credentials.new(user, password) end
end

local function check_websocket(self)
  if not self.offer or self.head.status ~= 101 then return true end
  local ok, err, why = require "cosock.websocket".check(self.head, self.offer)
  if ok then return true end
  return fail(self, err, why)
end

-- Sends a request. True: an answer can be looked at, or the body be written; nil and an error; with an HTTP proxy also nil and its
-- status. docs/httpc.md has the options.
function methods:request(op)
  check(op, REQUEST, "request")
  if not op.url then error("request: url is missing", 2) end
  if op.size and not (op.size >= 0 and op.size < 1 << 53) then error("request: size: expected a number of bytes", 2) end
  if self.gone then return nil, "incorrectuse" end
  finish(self)
  self.head, self.failed, self.offer, self.method = nil, nil, nil, op.method or "GET"
  local to, err, why = url.parse(url.with_query(op.url, op.query))
  if not to then return fail(self, err) end
  to.place = (SECURE[to.scheme] and "tls " or "") .. url.authority(to)
  if op.trusted and not SECURE[to.scheme] then return fail(self, "sslnottrusted") end
  self.scheme = to.scheme
  if SOCKET[to.scheme] then self.method = "GET" end
  set_credentials(self, op, to)
  for _ = 1, 3 do -- one for a challenge, one for a nonce that was too old
    local ok
    ok, err, why = try(self, op, to)
    if err == "prxready" then
      self.method = nil -- nothing was asked
      return nil, err
    end
    if not ok then return fail(self, err, why) end
    if not self.head or self.head.status ~= 401 or not self.credentials or
       not self.credentials:challenged(self.head.fields, "www-authenticate") then break end
    finish(self)
  end
  if self.head then return check_websocket(self) end
  return true
end

-- Whether the server has answered already, every now and then or because it must be known now. n: bytes that were just written.
local function look(self, n, now)
  self.unseen = self.unseen + n
  if not now and self.unseen < PIECE and ba.clock() - self.looked < LOOK_MS then return end
  read_head(self, self.looked == 0 and 1 or 0) -- only a wait of some time makes the socket read at all
  self.unseen, self.looked = 0, ba.clock()
end

-- Writes a part of the body. True; nil and an error, or nil and the status of a server that has answered already.
function methods:write(data)
  local kind = type(data)
  if kind ~= "string" and kind ~= "number" and kind ~= "userdata" then error("write: expected a string, got " .. kind, 2) end
  data = tostring(data)
  if data == "" then return self.failed == nil or nil, self.failed end
  if refused(self) then return nil, self.head.status end
  if self.failed or not self.upload then return nil, self.failed or "incorrectuse" end
  local chunked = self.upload == "chunked"
  if not chunked and #data > self.upload then return nil, "toomuchdata" end
  for i = 1, #data, PIECE do
    local part = data:sub(i, i + PIECE - 1)
    local ok, err = send(self, chunked and ("%x\r\n%s\r\n"):format(#part, part) or part)
    if not chunked and ok then self.upload = self.upload - #part end
    if self.upload ~= 0 and not self.head then look(self, #part, not ok) end
    if refused(self) then return nil, self.head.status end
    if not ok then return fail(self, err) end
  end
  return true
end

-- ---- the answer, for the caller ----

-- Whether the head of the answer is there: without a body to be written it always is. For http.lua.
function methods:answered() return self.head ~= nil end

-- The number; nil, err.
function methods:status()
  local ok, err = response(self)
  if not ok then return nil, err end
  return self.head.status
end

-- The fields as sent: {name = value}; repeated ones joined. Found by name in any case. With a name: the value of that field, or
-- nil. nil, err.
function methods:header(wanted)
  local ok, err = response(self)
  if not ok then return nil, err end
  if wanted then return self:header()[wanted] end
  local all, lower = {}, self.head.header
  local names = {}
  for _, field in ipairs(self.head.fields) do
    local name = names[field[1]:lower()] or field[1]
    names[name:lower()] = name
    all[name] = lower[name:lower()] or field[2]
  end
  return setmetatable(all, {__index = function(t, name)
    local sent = type(name) == "string" and names[name:lower()]
    return sent and rawget(t, sent) or nil
  end})
end

-- for name, value in h:headerpairs() do: every field, as sent.
function methods:headerpairs()
  local list, i = response(self) and self.head.fields or {}, 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

-- for name, value, attributes in h:cookie() do: every cookie that is set; attributes: a table with names in lower case (expires,
-- path, domain, secure ...), or nil.
function methods:cookie()
  local nextfield = self:headerpairs()
  return function()
    for field, text in nextfield do
      local name, value, rest = text:match "^%s*([^=;]+)=([^;]*)(.*)$"
      if field:lower() == "set-cookie" and name then
        local attributes
        for key, equals, what in rest:gmatch ";%s*([^=;]+)(=?)%s*([^;]*)" do
          key = key:lower():match "^(.*%S)"
          if key then
            attributes = attributes or {}
            attributes[key] = equals == "" or what
          end
        end
        return name, value, attributes
      end
    end
  end
end

local function read_all(self)
  local parts, len, data, err = {}, 0, nil, nil
  repeat
    data, err = piece(self)
    if err then return nil, err end
    parts[#parts + 1], len = data, len + #(data or "")
    if len > (self.op.maxsize or MAXSIZE) then return fail(self, "toomuchdata") end
  until not data
  return table.concat(parts)
end

-- table.concat copies three times what two pieces, the common case, need once.
local function join(parts)
  if #parts > 2 then return table.concat(parts) end
  return parts[1] .. (parts[2] or "")
end

local function read_some(self, n)
  local parts, len = {}, 0
  while len < n do
    local data, err = piece(self, math.min(n - len, PIECE))
    if not data and len == 0 then return nil, err end
    if not data then break end -- an error comes with the next read
    parts[#parts + 1], len = data, len + #data
  end
  return join(parts)
end

-- "a": the rest of the body. A number: so many bytes, less at the end, nil behind it. Nothing or 0: drops the rest, true. nil, err.
function methods:read(what)
  local ok, err = response(self)
  if what ~= nil and what ~= "a" and what ~= "*a" and not (type(what) == "number" and what >= 0) then
    error('read: expected "a" or a number of bytes', 2)
  end
  if not ok then return nil, err end
  if what == "a" or what == "*a" then return read_all(self) end
  if what and what >= 1 then return read_some(self, what // 1) end
  local data
  repeat data, err = piece(self) until not data
  return not err or nil, err
end

-- ---- the rest ----

-- Milliseconds for connecting and for each read and write; 0: no limit. Default 20000.
function methods:timeout(ms)
  if type(ms) ~= "number" or ms < 0 then error("timeout: expected milliseconds", 2) end
  self.ms = ms > 0 and math.min(ms, LONGEST_MS) or nil
end

function methods:close()
  drop(self)
  self.failed = "closed"
end

for _, name in ipairs {"certificate", "cipher", "peername", "sockname"} do
  methods[name] = function(self)
    if not self.sock then return nil, "invalidsocketcon" end
    return self.sock[name](self.sock)
  end
end

-- As sock:trusted(); nil, "notssl" without TLS.
function methods:trusted()
  if not self.sock then return nil, "invalidsocketcon" end
  if not SECURE[self.scheme] then return nil, "notssl" end
  return self.sock:trusted()
end

-- ba.socket.http2sock: the connection as a socket. What came behind the answer is its unread input.
local function http2sock(self)
  local sock = self.sock
  if not sock then return nil, self.failed or "invalidsocketcon" end
  self.sock, self.reader, self.failed, self.gone = nil, nil, "incorrectuse", true
  if self.offer and self.head and self.head.status == 101 then
    local ok, err = ba.socket.websocket(sock, {role = "client"})
    if not ok then
      sock:close()
      return nil, err
    end
  end
  return sock
end

local meta = {__index = methods, __name = "httpc", __close = methods.close, __http2sock = http2sock}

-- op: see docs/httpc.md.
function httpc.create(op, method_op)
  if op == httpc then op = method_op end -- written httpc:create(op)
  op = op or {}
  check(op, OPTIONS, "create")
  local self = setmetatable({op = op, ms = 20000}, meta)
  if op.proxy then
    self.proxy = {proxy = op.proxy, proxyport = op.proxyport, socks = op.socks, proxyuser = op.proxyuser, proxypass = op.proxypass,
                  intf = op.intf, ipv6 = op.ipv6}
  end
  return self
end

httpc.parsequery = url.parse_query -- as http.lua asks for it

return httpc
