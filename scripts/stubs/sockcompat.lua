---@meta

-- What LuaSocket's Lua layer expects.

sockcompat = {}

---Its arguments; raises an error that only protect catches when the first is nil or false.
---@param ... any
---@return any ...
function sockcompat.try(...) end

---A try that calls the finalizer before it raises.
---@param finalizer? fun()
---@return fun(...): ...
function sockcompat.newtry(finalizer) end

---f, but with `nil, err` for what try raised in it.
---@param f function
---@return function
function sockcompat.protect(f) end

---The values behind the nth.
---@param n integer
---@param ... any
---@return any ...
function sockcompat.skip(n, ...) end
