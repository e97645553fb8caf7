-- WebSockets: random frames, cut anywhere, against what a reader must make of them
--
--   SEED=7 ROUNDS=1000 cosockd test tests/lua/websocket_random.lua
local check = require "check"
local ws = require "ws"
local eq, ok = check.eq, check.ok

local SEED, ROUNDS = tonumber(os.getenv "SEED") or 1, tonumber(os.getenv "ROUNDS") or 4

local function draw_payload()
  local kind = math.random(10)
  local n = kind == 1 and 0 or kind == 2 and math.random(60000) or kind == 3 and 8190 + math.random(5) or math.random(300)
  return (check.pattern(n):gsub("[\x80-\xff]", "~")) -- text has to be UTF-8
end

-- Bytes of messages, and the frames and messages among them: {data, is_text}.
local function draw_stream(mask)
  local parts, frames, messages, pings = {}, {}, {}, {}
  local function add(payload, options)
    options.mask = mask and string.pack(">I4", math.random(0, 0xffffffff)) or nil
    parts[#parts + 1] = ws.frame(payload, options)
  end
  for _ = 1, math.random(25) do
    local op = math.random(2) == 1 and "text" or "binary"
    local count, whole = math.random(3) == 1 and math.random(4) or 1, {}
    for i = 1, count do
      if math.random(5) == 1 then
        local text = check.pattern(math.random(0, 125))
        add(text, {op = "ping"})
        pings[#pings + 1] = text
      end
      local payload = draw_payload()
      add(payload, {op = i == 1 and op or "continuation", fin = i == count})
      if payload ~= "" then frames[#frames + 1] = {payload, op == "text"} end
      whole[#whole + 1] = payload
    end
    messages[#messages + 1] = {table.concat(whole), op == "text"}
  end
  return table.concat(parts), frames, messages, pings
end

local function send_cut(peer, bytes)
  local at = 1
  while at <= #bytes do
    local n = math.random(3) == 1 and math.random(5) or math.random(20000)
    if not peer:write(bytes:sub(at, at + n - 1)) then return end
    at = at + n
    if math.random(4) == 1 then ba.sleep(0) end
  end
end

-- A frame as read gives it: whole, or in pieces that must follow each other.
local function read_frame(sock)
  local data, text, at, total = sock:read()
  if not at then return data, text end
  ok(total > 8192, "a small frame in pieces")
  local pieces = {data}
  local len = #data
  while true do
    eq(at, len, "bytes read")
    ok(len <= total, "bytes of another frame")
    if len == total then return table.concat(pieces), text end
    local piece, same_text, next_at, same_total = sock:read()
    eq(same_text, text)
    eq(same_total, total)
    pieces[#pieces + 1], len, at = piece, len + #piece, next_at
  end
end

for _, role in ipairs {"server", "client"} do
  for _, messages in ipairs {false, true} do
    check.job(("%s, %s"):format(role, messages and "messages" or "frames"), function()
      math.randomseed(SEED)
      for _ = 1, ROUNDS do
        local bytes, frames, whole, pings = draw_stream(role == "server")
        local peer, sock = check.pair()
        ok(ba.socket.websocket(sock, {role = role, messages = messages, maxsize = 1 << 20}))
        local answered = 0
        ba.thread.run(function() send_cut(peer, bytes) end)
        ba.thread.run(function()
          local state = {}
          while answered < #pings do
            local f = ok(ws.read_frame(peer, state))
            eq(f.op, "pong")
            eq(f.payload, pings[answered + 1])
            answered = answered + 1
          end
        end)
        for i, expected in ipairs(messages and whole or frames) do
          local data, text = read_frame(sock)
          eq(data, expected[1], "input " .. i)
          eq(text, expected[2], "kind of input " .. i)
          if math.random(5) == 1 then ba.sleep(1) end
        end
        check.wait(function() return answered == #pings end, "pongs")
        sock:close()
        peer:close()
      end
    end)
  end
end
