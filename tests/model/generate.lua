-- Sequences of steps (drive.lua) out of a seed. Names are chosen here, so that a sequence stays the same whatever
-- is taken out of it; a step that makes no sense by then is passed over.
local random = math.random

local SHORT, LONG = 3, 3000000 -- ms: over at once; never over

local function weighted(list)
  local total = 0
  for _, e in ipairs(list) do total = total + e[1] end
  return function()
    local at = random(total)
    for _, e in ipairs(list) do
      at = at - e[1]
      if at <= 0 then return e[2] end
    end
  end
end

local function generate(seed, limits, depths)
  math.randomseed(seed)
  local list, actors, socks, listeners, own, letter = {}, {"D"}, {}, {}, {}, 0
  local function add(step) list[#list + 1] = step end
  local function any(of) return of[random(#of)] end
  local function next_letter()
    letter = letter % 52 + 1
    return string.char(letter <= 26 and 96 + letter or 38 + letter)
  end
  local function name(of, prefix) of[#of + 1] = prefix .. #of + 1 return of[#of] end
  local function call(a, what, fields)
    fields = fields or {}
    fields["do"], fields.actor, fields.call = "call", a, what
    fields.depth = random(4) == 1 and random(depths) or nil
    add(fields)
  end
  -- An actor and mostly its own socket.
  local function pair(own_pm)
    local a = any(actors)
    local s = own[a]
    if not s or random(1000) > own_pm then s = #socks > 0 and any(socks) or nil end
    return a, s
  end
  local function spawn(kind)
    local a = name(actors, "A")
    local s = kind == "s" and name(socks, "S") or nil
    own[a] = s
    add {["do"] = "spawn", actor = a, kind = kind, sock = s}
    return a
  end
  local function connect(a, to)
    local new = not own[a] and name(socks, "S") or nil
    call(a, "connect", {to = to, ms = to == "hole" and random(2) == 1 and SHORT or LONG, new = new})
  end
  local sizes = weighted {{1, 0}, {5, 1}, {5, 10}, {3, limits.low // 3}, {2, limits.low}, {3, limits.low + 1},
    {4, "high"}, {2, limits.low + (limits.high - limits.low) // 2}}

  local makers = {
    {6, function() spawn "s" end}, {3, function() spawn "job" end}, {1, function() spawn "timer" end},
    {14, function() connect(any(actors), "live") end},
    {1, function() connect(any(actors), "dead") end}, {2, function() connect(any(actors), "hole") end},
    {16, function() local a, s = pair(900) if s then call(a, "read", {on = s, ms = any {nil, SHORT, LONG, LONG, LONG}}) end end},
    {20, function() local a, s = pair(500) if s then call(a, "write", {on = s, n = sizes(), letter = next_letter()}) end end},
    {12, function() local a, s = pair(800) if s then call(a, "disable", {on = s}) end end},
    {12, function()
      local a, s = pair(200)
      local values = table.pack(table.unpack({1, "x", false, 2.5}, 1, random(0, 4)))
      if s then call(a, "enable", {on = s, values = values}) end
    end},
    {5, function() local a, s = pair(300) if s then call(a, "close", {on = s}) end end},
    {3, function() local a, s = pair(300) if s then call(a, "queuelen", {on = s, n = any {0, 100, 16384, 10000000}}) end end},
    {8, function()
      local a, s = pair(500)
      if s then
        local mode = any {"r", "s", "s"}
        local new = name(actors, "A")
        own[new] = s
        call(a, "event", {on = s, mode = mode, new = new})
      end
    end},
    {4, function() add {["do"] = "finish", actor = any(actors), how = random(4) == 1 and "error" or "return"} end},
    {12, function() if #socks > 0 then add {["do"] = "far_send", on = any(socks), letter = next_letter(), n = random(100)} end end},
    {3, function() if #socks > 0 then add {["do"] = "far_fin", on = any(socks)} end end},
    {3, function() if #socks > 0 then add {["do"] = "far_rst", on = any(socks)} end end},
    {8, function() if #socks > 0 then add {["do"] = "far_read", on = any(socks)} end end},
    {3, function()
      local a = any(actors)
      local new = not own[a] and name(socks, "S") or nil
      listeners[#listeners + 1] = own[a] or new
      call(a, "bind", {new = new})
    end},
    {3, function() if #listeners > 0 then add {["do"] = "client", on = any(listeners), new = name(socks, "S")} end end},
    {4, function() if #listeners > 0 then
      local l = any(listeners)
      for _, a in ipairs(actors) do if own[a] == l and random(2) == 1 then call(a, "accept", {on = l}) end end
    end end},
    {4, function() if #socks > 0 then add {["do"] = "drop", on = any(socks)} end end},
  }
  -- A few life stories that chance seldom tells to the end.
  local stories = {
    function() connect(spawn "s", "live") end,
    function() connect(spawn "s", "live") end,
    function() -- a blocking socket, and perhaps a coroutine for it
      local a = spawn "job"
      connect(a, "live")
      local s = socks[#socks]
      if random(3) > 1 then
        local new = name(actors, "A")
        own[new] = s
        call("D", "event", {on = s, mode = any {"r", "s"}, new = new})
      else
        call(spawn "job", "read", {on = s, ms = LONG})
      end
    end,
    function() -- a server
      local a = spawn "s"
      call(a, "bind")
      listeners[#listeners + 1] = own[a]
      local l = own[a]
      if random(2) == 1 then call(a, "accept", {on = l}) end
      add {["do"] = "client", on = l, new = name(socks, "S")}
      if random(2) == 1 then call(a, "accept", {on = l}) end
      if random(3) == 1 then
        local new = name(actors, "A")
        own[new] = l
        call(a, "event", {on = l, mode = any {"r", "r", "s"}, new = new})
        if random(2) == 1 then add {["do"] = "drop", on = l} end
        call(new, "accept", {on = l})
      end
    end,
    function() -- two that write to a third behind its back
      local a = spawn "s"
      connect(a, "live")
      local s = own[a]
      for _ = 1, random(3) do call(spawn(any {"s", "s", "job"}), "write", {on = s, n = any {"high", 10, limits.low}, letter = next_letter()}) end
      call("D", "write", {on = s, n = any {1, 100, limits.low}, letter = next_letter()})
    end,
    function() -- abandoned while disabled, or in read
      local a = spawn "s"
      if random(2) == 1 then connect(a, "live") end
      call(a, any {"disable", "read"}, {on = own[a], ms = LONG})
      add {["do"] = "drop", on = own[a]}
    end,
    function() -- the peer ends behind data that nobody has read
      local a = spawn "s"
      connect(a, "live")
      add {["do"] = "far_send", on = own[a], letter = next_letter(), n = random(100)}
      call(a, "disable", {on = own[a]})
      add {["do"] = random(4) > 1 and "far_fin" or "far_rst", on = own[a]}
      if random(2) == 1 then call("D", "enable", {on = own[a], values = table.pack()}) end
      call(a, "read", {on = own[a], ms = LONG})
    end,
    function() -- a queue of no length, or a short one
      local a = spawn "s"
      connect(a, "live")
      call("D", "queuelen", {on = own[a], n = any {0, 0, 100}})
      call("D", "write", {on = own[a], n = "high", letter = next_letter()})
      for _ = 1, 3 do call("D", "write", {on = own[a], n = any {1, 50}, letter = next_letter()}) end
    end,
    function() -- a time-out, then data
      local a = spawn(any {"s", "job"})
      connect(a, "live")
      local s = own[a] or socks[#socks]
      call(a, "read", {on = s, ms = SHORT})
      add {["do"] = "far_send", on = s, letter = next_letter(), n = random(100)}
      call(a, "read", {on = s, ms = any {nil, LONG}})
    end,
    function() -- enable while executing
      local a = spawn "s"
      if random(2) == 1 then connect(a, "live") end
      call(a, "enable", {on = own[a], values = table.pack("kept", random(9))})
      if random(2) == 1 then call(a, "enable", {on = own[a], values = table.pack("lost")}) end
      call(a, "disable", {on = own[a]})
    end,
  }
  for _ = 1, random(3) do any(stories)() end
  local make = weighted(makers)
  while #list < 40 do
    if random(15) == 1 then any(stories)() else make()() end
  end
  return list
end

return generate
