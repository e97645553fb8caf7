-- A small HTTP/1.1 server to put behind the proxy: for demonstrations and tests, not for the Internet.
--
--   service "origin" { script = "origin.lua", listen = "127.0.0.1:8081" }
--
--   /         a page that says that it works
--   /hello    two words
--   /bytes/N  N bytes, at most 1G, or 64k, 1M
local address = require "cosock.address"
local options = require "cosock.options"

local args = ...
if type(args) ~= "table" then args = {listen = args} end
options.check_service(args, "listen")

local HEAD_MAX = 16384   -- bytes of a request's head
local IDLE = 60000       -- ms to wait for a request
local BLOCK = ("0123456789abcdef"):rep(4096)

local PAGE = [[
<!DOCTYPE html>
<html lang="en">
<title>cosockd works</title>
<style>body { font: 1.2em/1.5 sans-serif; max-width: 36em; margin: 3em auto; padding: 0 1em }</style>
<h1>It works</h1>
<p>This page was written by <code>origin.lua</code>, a script in cosockd, and if you came through the
proxy's port it passed through <code>proxy.lua</code> in the same daemon.</p>
<p>Try <a href="/hello">/hello</a> or <a href="/bytes/1000">/bytes/1000</a>.</p>
</html>
]]

local REASONS = {[200] = "OK", [400] = "Bad Request", [404] = "Not Found", [405] = "Method Not Allowed",
                 [431] = "Request Header Fields Too Large"}

-- Reads until the empty line that ends a head. Returns the head and what came behind it.
local function read_head(sock, rest)
  while true do
    rest = rest:gsub("^[\r\n]+", "")
    local from, to = rest:find "\r?\n\r?\n"
    if from then return rest:sub(1, from - 1), rest:sub(to + 1) end
    if #rest > HEAD_MAX then return nil, 431 end
    local data = sock:read(IDLE)
    if not data then return nil end
    rest = rest .. data
  end
end

-- Reads and drops a body. Returns what came behind it, or nil.
local function skip_body(sock, length, rest)
  while #rest < length do
    length = length - #rest
    rest = sock:read(IDLE)
    if not rest then return nil end
  end
  return rest:sub(length + 1)
end

local function parse(head)
  local method, target, minor = head:match "^(%u+) (%S+) HTTP/1%.([01])\r?\n?"
  if not method then return nil end
  local request = {method = method, path = target:match "^[^?#]*", length = 0}
  local fields = {}
  for name, value in head:gmatch "\n([%w%-]+):[ \t]*([^\r\n]-)[ \t]*%f[\r\n\0]" do
    fields[name:lower()] = value
  end
  local connection = (fields.connection or ""):lower()
  request.keep = minor == "1" and not connection:find "close" or connection:find "keep%-alive" ~= nil
  request.length = tonumber((fields["content-length"] or "0"):match "^%d+$")
  request.unknown_body = fields["transfer-encoding"] ~= nil or not request.length
  return request
end

local function head_of(status, type, length, keep)
  return ("HTTP/1.1 %d %s\r\nServer: cosockd\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n")
    :format(status, REASONS[status], type, length, keep and "keep-alive" or "close")
end

local function answer(sock, request, status, type, body)
  local head = head_of(status, type, #body, request.keep)
  return sock:write(request.method == "HEAD" and head or head .. body)
end

local function answer_bytes(sock, request, count)
  if not sock:write(head_of(200, "application/octet-stream", count, request.keep)) then return nil end
  local ok = true
  while ok and count > 0 and request.method ~= "HEAD" do
    ok = sock:write(BLOCK, 1, math.min(count, #BLOCK))
    count = count - #BLOCK
  end
  return ok
end

local UNITS = {[""] = 1, k = 1 << 10, M = 1 << 20, G = 1 << 30}

local function bytes_wanted(path)
  local digits, unit = path:match "^/bytes/(%d+)([kMG]?)$"
  local count = digits and #digits <= 10 and tonumber(digits) * UNITS[unit]
  return count and count <= UNITS.G and count or nil
end

local function respond(sock, request)
  if request.method ~= "GET" and request.method ~= "HEAD" then
    return answer(sock, request, 405, "text/plain", "only GET and HEAD\n")
  elseif request.path == "/" then
    return answer(sock, request, 200, "text/html; charset=utf-8", PAGE)
  elseif request.path == "/hello" then
    return answer(sock, request, 200, "text/plain", "Hello World!\n")
  end
  local count = bytes_wanted(request.path)
  if count then return answer_bytes(sock, request, count) end
  return answer(sock, request, 404, "text/plain", "nothing here\n")
end

local function serve(sock)
  local rest = ""
  while rest do
    local head
    head, rest = read_head(sock, rest)
    if not head then
      if rest then answer(sock, {method = "GET"}, rest, "text/plain", "the request's head is too long\n") end
      break
    end
    local request = parse(head)
    if not request or request.unknown_body then
      answer(sock, {method = "GET"}, 400, "text/plain", "not a request that this server understands\n")
      break
    end
    rest = skip_body(sock, request.length, rest)
    if not rest or not respond(sock, request) or not request.keep then break end
  end
end

address.listen(args.listen, function(sock) sock:event(serve, "s") end)
