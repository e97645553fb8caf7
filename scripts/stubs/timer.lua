---@meta

-- Timers.

---An inactive timer. f returns true, or yields true, to run again after the same time.
---@param f function|thread
---@return ba.timer
function ba.timer(f) end

---@class ba.timer
local Timer = {}

---Starts it, or starts it again.
---@param ms number
---@param reference? boolean it keeps itself alive until it stops
---@param immediately? boolean f runs now, too
---@return true
function Timer:set(ms, reference, immediately) end

---Starts an active one again with another time; nil when it is not active.
---@param ms number
---@return true?
function Timer:reset(ms) end

---Stops it; nil when it is not active.
---@return true?
function Timer:cancel() end
