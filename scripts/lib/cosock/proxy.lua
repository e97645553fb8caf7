-- Connections through a proxy: HTTP CONNECT (RFC 9110, 9.3.6) or SOCKS5 (RFC 1928, with user and password of RFC 1929).
local credentials = require "cosock.credentials"
local url = require "cosock.url"

local proxy = {}

-- ---- HTTP CONNECT ----

local function connect_head(op, authority)
  local header = {{"Host", authority}}
  local answer = op.credentials and op.credentials:answer("CONNECT", authority)
  if answer then header[2] = {"Proxy-Authorization", answer} end
  return ba.http.request("CONNECT", authority, header)
end

-- The head of the final answer to a CONNECT; nil, err.
local function ask(sock, op, authority)
  local text, err = connect_head(op, authority)
  local ok
  if text then ok, err = sock:write(text) end
  if not ok then return nil, err end
  local reader, head = ba.http.reader(sock, "response"), nil
  for _ = 1, 10 do
    head, err = reader:head(op.ms, "CONNECT")
    if not head or head.status >= 200 then return head, err end
  end
  return nil, "invalidresponse"
end

-- ---- SOCKS5 ----

local REPLIES = {"prxgeneral", "prxnotallowed", "prxnetwork", "prxhost", "prxrefused", "prxttl", "prxcommand", "prxaddress"}

-- The 16 bytes of an IPv6 address.
local function ipv6(text)
  local v4 = text:match "[^:]*%.[^:]*$"
  if v4 then
    local a, b, c, d = v4:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
    text = text:sub(1, -#v4 - 1) .. ("%x:%x"):format(a * 256 + b, c * 256 + d)
  end
  local head, tail = text:match "^(.-)::(.*)$"
  local function pack(part)
    local out = {}
    for group in part:gmatch "%x+" do out[#out + 1] = ba.socket.h2n(2, tonumber(group, 16)) end
    return table.concat(out)
  end
  local a, b = pack(head or text), pack(tail or "")
  return a .. ("\0"):rep(16 - #a - #b) .. b
end

-- A destination as SOCKS5 writes it: type, address, port. Names are the proxy's to look up.
function proxy.socks_address(host, port)
  local a, b, c, d = host:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
  if a and a + 0 < 256 and b + 0 < 256 and c + 0 < 256 and d + 0 < 256 then
    host = "\1" .. string.char(a, b, c, d)
  elseif host:find ":" then
    host = "\4" .. ipv6(host)
  else
    host = "\3" .. string.pack("s1", host)
  end
  return host .. ba.socket.h2n(2, port)
end

-- A function that reads exactly n bytes, all within ms (nil: no limit); one that gives back what came behind them.
function proxy.exactly(sock, ms)
  local deadline, got = ms and ba.clock() + ms, ""
  return function(n)
    while #got < n do
      local data, err = sock:read(deadline and math.max(deadline - ba.clock(), 0))
      if not data then return nil, err end
      got = got .. data
    end
    local part = got:sub(1, n)
    got = got:sub(n + 1)
    return part
  end, function() sock:unread(got) end
end

local function socks_login(sock, read, op)
  local ok, err = sock:write("\1" .. string.pack("s1s1", op.proxyuser, op.proxypass or ""))
  local answer
  if ok then answer, err = read(2) end
  if not answer then return nil, err end
  return answer == "\1\0" or nil, "proxyauth"
end

-- True; nil, err.
local function socks(sock, op, host, port)
  local read, done = proxy.exactly(sock, op.ms)
  local ok, err = sock:write(op.proxyuser and "\5\2\0\2" or "\5\1\0")
  local answer
  if ok then answer, err = read(2) end
  if not answer then return nil, err end
  if answer == "\5\2" and op.proxyuser then
    ok, err = socks_login(sock, read, op)
    if not ok then return nil, err end
  elseif answer ~= "\5\0" then
    return nil, answer == "\5\255" and "proxyauth" or "prxnotcompat"
  end
  ok, err = sock:write("\5\1\0" .. proxy.socks_address(host, port))
  if ok then answer, err = read(5) end -- with the first byte of the address, which may be its length
  if not ok or not answer then return nil, err end
  local version, reply, kind, first = answer:match "^(.)(.).(.)(.)$"
  if version ~= "\5" then return nil, "prxnotcompat" end
  if reply ~= "\0" then return nil, REPLIES[reply:byte()] or "prxunknown" end
  local more = kind == "\1" and 5 or kind == "\4" and 17 or kind == "\3" and first:byte() + 2
  if not more then return nil, "prxnotcompat" end
  answer, err = read(more)
  if not answer then return nil, err end
  done() -- the server behind the proxy may speak first
  return true
end

-- ---- either ----

local function dial(op)
  return ba.socket.connect(op.proxy, op.proxyport or op.socks and 1080 or 8080,
                           {timeout = op.timeout, intf = op.intf, ipv6 = op.ipv6, blocking = true})
end

-- A socket in blocking mode to the host. op: proxy, proxyport, socks, proxyuser,
-- proxypass, intf and ipv6 as for httpc; timeout and ms: for connecting, and for each answer (nil: no limit). op.credentials is
-- made and kept here. Errors: those of connect and read; of SOCKS5 prx... and "proxyauth"; of CONNECT the proxy's status, a number.
function proxy.connect(op, host, port)
  if op.proxyuser and (#op.proxyuser > 255 or #(op.proxypass or "") > 255) or #host > 255 then return nil, "invalidparam" end
  local authority = url.authority {host = host, port = port}
  if op.proxyuser then op.credentials = op.credentials or credentials.new(op.proxyuser, op.proxypass) end
  local again, sock, err = 3, nil, nil -- one for a challenge, one for a nonce that was too old
  repeat
    local ok, head
    again = again - 1
    sock, err = dial(op)
    if not sock then return nil, err end
    if op.socks then
      ok, err = socks(sock, op, host, port)
      if ok then return sock end
    else
      head, err = ask(sock, op, authority)
      if head and head.status < 300 then return sock end
      err = head and head.status or err
    end
    sock:close()
  until again == 0 or err ~= 407 or not (op.credentials and op.credentials:challenged(head.fields, "proxy-authenticate"))
  return nil, err
end

return proxy
