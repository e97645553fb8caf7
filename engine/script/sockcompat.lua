-- What LuaSocket's C part gives to its Lua part (ba-api E, group 14): a module `socket.core` written over
-- ba.socket, and `socket` itself, fill this table further.

local function pass(finalizer, ok, ...)
  if ok then return ok, ... end
  if finalizer then pcall(finalizer) end
  error(setmetatable({(...)}, {__tostring = function(e) return tostring(e[1]) end, __name = "socket exception"}), 0)
end

-- newtry(finalizer): a function that passes its arguments on, unless the first is false or nil; then it calls the
-- finalizer and raises the second.
local function newtry(finalizer)
  return function(...) return pass(finalizer, ...) end
end

local function unwrap(ok, ...)
  if ok then return ... end
  local meta = getmetatable((...))
  if type(meta) == "table" and meta.__name == "socket exception" then return nil, (...)[1] end
  error((...), 0)
end

-- protect(f): f, but what a try function raises in it is returned, as nil and the error.
local function protect(f)
  return function(...) return unwrap(pcall(f, ...)) end
end

local function skip(n, ...) return select(n + 1, ...) end

return {newtry = newtry, try = newtry(), protect = protect, skip = skip, _VERSION = "LuaSocket 3.0 (cosockd)"}
