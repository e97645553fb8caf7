-- Rules of the API, each broken in one way, in this test's own copy of the methods: the model must notice each.
-- Called with a name, breaks that rule; with none, returns a list of all names.

local methods = debug.getmetatable(ba.socket.event(function() end)).__index
local real = {}
for name, f in pairs(methods) do real[name] = f end

local breaks = {}

-- Results as the real ones: nothing behind a single value.
local function as_given(first, second)
  if second == nil and first ~= nil then return first end
  return first, second
end

-- A.6/8: an enable that comes while its target waits elsewhere is remembered.
function breaks.enable_is_kept()
  local kept = setmetatable({}, {__mode = "k"})
  function methods.enable(s, ...)
    if s:state() ~= "disabled" then kept[s] = table.pack(...) end
    return real.enable(s, ...)
  end
  function methods.disable(s)
    local values = kept[s]
    kept[s] = nil
    if values and ba.socket.getsock() == s then return table.unpack(values, 1, values.n) end
    return real.disable(s)
  end
end

-- A.6/3: enable resumes a little later.
function breaks.enable_is_late()
  function methods.enable(s, ...)
    local values = table.pack(...)
    ba.thread.run(function() real.enable(s, table.unpack(values, 1, values.n)) end)
    return true
  end
end

-- A.6/2: only the first value arrives.
function breaks.enable_loses_values()
  function methods.enable(s, first) return real.enable(s, first) end
end

-- A.5: a refused message was sent in part.
function breaks.refused_is_sent()
  function methods.write(s, data, ...)
    local sent, queued = real.write(s, data, ...)
    if sent == nil and type(queued) == "number" then
      local before = s:queuelen()
      s:queuelen(1 << 30)
      real.write(s, data:sub(1, 1))
      s:queuelen(before)
    end
    return as_given(sent, queued)
  end
end

-- A.5: who finds the line long goes to its end once more.
function breaks.writers_overtake()
  local calls = 0
  function methods.write(s, data, ...)
    calls = calls + 1
    if calls % 3 == 0 and #data > 1 then
      local sent, err = real.write(s, data:sub(1, 1))
      if not sent then return sent, err end
      ba.sleep(20)
      return real.write(s, data:sub(2))
    end
    return real.write(s, data, ...)
  end
end

-- A.5: close forgets the last text.
function breaks.close_loses_output()
  local last = setmetatable({}, {__mode = "k"})
  function methods.write(s, data, ...)
    if #data <= 10 and #data > 0 and s:state() ~= "terminated" and select(2, s:state()) then
      last[s] = data
      return true
    end
    return real.write(s, data, ...)
  end
end

-- A.7: a time-out ends the connection.
function breaks.timeout_closes()
  function methods.read(s, ms)
    local data, err = real.read(s, ms)
    if err == "timeout" then real.close(s) end
    return as_given(data, err)
  end
end

-- A.7: closed by somebody here looks like closed by the peer.
function breaks.wrong_reason()
  function methods.read(s, ms)
    local data, err = real.read(s, ms)
    if err == "closed" then err = "socketclosed" end
    return as_given(data, err)
  end
end

-- A.7: the peer's end makes unread data void.
function breaks.end_before_data()
  function methods.read(s, ms)
    local data, err = real.read(s, ms)
    if data and #data % 7 == 0 then return real.read(s, ms) end
    return as_given(data, err)
  end
end

-- A.3: the end of the old coroutine closes a socket that was handed over.
function breaks.old_coroutine_closes()
  function methods.event(s, f, ...)
    local mine = s:owner()
    local r, err = real.event(s, f, ...)
    if mine then ba.thread.run(function() ba.sleep(5) real.close(s) end) end
    return as_given(r, err)
  end
end

-- A.3: a second connect makes a second socket.
function breaks.second_connect()
  local connect = ba.socket.connect
  function ba.socket.connect(...)
    local s = ba.socket.getsock()
    if s and select(2, s:state()) then
      local r
      ba.thread.run(function() r = table.pack(connect("127.0.0.1", 1)) end)
      while not r do ba.sleep(1) end
      return table.unpack(r, 1, r.n)
    end
    return connect(...)
  end
end

-- A.4: a disabled socket that nobody holds stays.
function breaks.disabled_is_kept()
  local all = {}
  function methods.disable(s)
    all[s] = true
    return real.disable(s)
  end
end

return function(name)
  if not name then
    local names = {}
    for n in pairs(breaks) do names[#names + 1] = n end
    table.sort(names)
    return names
  end
  assert(breaks[name], "no such rule: " .. name)()
end
