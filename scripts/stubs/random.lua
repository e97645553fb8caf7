---@meta

-- Random numbers, fit for keys.

---rnd(): 0 to 2147483647; rnd(high); rnd(low, high), both included.
---@param low? number
---@param high? number
---@return integer
function ba.rnd(low, high) end

---An integer of so many random bytes.
---@param size integer 1 to 8
---@return integer
function ba.rnds(size) end

---@param size integer
---@return string
function ba.rndbs(size) end

---Accepted; there is no need for it.
---@param seed number|string
function ba.rndseed(seed) end
