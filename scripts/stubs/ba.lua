---@meta

-- The table ba: what stands in it directly. The other files fill the tables in it.

ba = {}

---Waits; 0 lets the others run. Errors: sysshutdown.
---@param ms number
---@return true? ok
---@return "sysshutdown"? err
function ba.sleep(ms) end

---Milliseconds, monotonic; only differences mean something.
---@return integer ms
function ba.clock() end
