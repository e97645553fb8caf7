---@meta

-- Dates.

---A moment: from "NOW", "MIN", "MAX" or ISO 8601 text [, offset]; from seconds [, nanoseconds [, offset]]; from a table of fields; a copy. A table
---behind that is a span to add: days, hours, mins, secs, nsecs. nil, "invalidparam": there is no such date.
---@param what string|number|table|ba.datetime
---@param ... any
---@return ba.datetime?
---@return "invalidparam"? err
function ba.datetime(what, ...) end

---Seconds since 1970 of a date of HTTP; nil, "invalidparam".
---@param text string
---@return integer? seconds
---@return "invalidparam"? err
function ba.parsedate(text) end

---A date of HTTP.
---@param seconds number since 1970
---@return string
function ba.encdate(seconds) end

---@class ba.datetime
local Datetime = {}

---@param localtime? boolean the fields are those of its own time zone; else UTC
---@return {year: integer, month: integer, day: integer, hour: integer, min: integer, sec: integer, nsec: integer, offset: integer}
function Datetime:date(localtime) end

---Minutes east of Greenwich until now; sets them when n is given.
---@param n? integer
---@return integer
function Datetime:offset(n) end

---@return integer seconds since 1970
---@return integer nanoseconds
---@return integer offset minutes
function Datetime:ticks() end

---ISO 8601.
---@param offset? integer minutes
---@return string
function Datetime:tostring(offset) end
