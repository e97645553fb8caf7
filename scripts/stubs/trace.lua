---@meta

-- The log, and errors.

---One line in the log, level notice, with file and line in front.
---@param ... any
function trace(...) end

---One line in the log.
---@param info boolean|integer|string false: without the place; or the priority, when it comes first
---@param priority? integer|"emerg"|"alert"|"crit"|"err"|"warning"|"notice"|"info"|"debug"|any 0 to 7
---@param ... any
function tracep(info, priority, ...) end

---The function that gets the text of each uncaught error, as a job; nil: none.
---@param f? fun(text: string)
---@return function? before the one until now
function ba.seterrh(f) end
