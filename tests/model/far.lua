-- The far ends: connections that are not the engine's, behind a control connection on which each line is one
-- command and is answered by one. tests/sim/model_far.c and tests/e2e/far.py are the other side.
--
--   connect PORT          connects to the engine's listener; answers with the name of the far end, "p" and its port
--   send NAME LETTER N    sends N bytes
--   fin NAME, reset NAME  ends its side; resets. A name is "p" and its own port or "e" and the engine's
--   receive NAME          what it has received since: "a10 b3 ; open", or eof or reset in the place of open
--   forget NAME ...       closes these and all that were spoken of before
--   stop                  has the engine stopped
local far = {}

local control, buffer = nil, ""
local read, write -- its methods as they were at first: broken.lua may change them

local function ask(...)
  write(control, table.concat({...}, " ") .. "\n")
  while true do
    local line, rest = buffer:match "^(.-)\n(.*)$"
    if line then
      buffer = rest
      return line
    end
    buffer = buffer .. assert(read(control))
  end
end

-- live: where far ends listen and read only when told to; dead: nobody listens; hole: never answers.
function far.open(ports)
  far.live, far.dead, far.hole = ports.live, ports.dead, ports.hole
  control = assert(ba.socket.connect("127.0.0.1", ports.control, {timeout = 60000}))
  read, write = control.read, control.write
end

function far.connect(port) return ask("connect", port) end
function far.send(name, letter, n) return ask("send", name, letter, n) end
function far.fin(name) return ask("fin", name) end
function far.reset(name) return ask("reset", name) end
function far.forget(names) return ask("forget", table.unpack(names)) end
function far.stop() write(control, "stop\n") end

-- A list of {letter, n}; "eof", "reset" or nil while it is open.
function far.receive(name)
  local runs, state = ask("receive", name):match "^(.*); (%a+)$"
  local list = {}
  for letter, n in runs:gmatch "(%a)(%d+)" do list[#list + 1] = {letter = letter, n = tonumber(n)} end
  return list, state ~= "open" and state or nil
end

return far
