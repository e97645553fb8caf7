---@meta

-- ba.json.

ba.json = {}

---What null becomes.
ba.json.null = nil ---@type userdata

---The texts of the values, one behind the other. Functions, userdata and threads become null. nil, "mem".
---@param ... any
---@return string? text
---@return "mem"? err
function ba.json.encode(...) end

---A string as JSON, with its quotes.
---@param s string
---@return string
function ba.json.encodestr(s) end

---The values of a text. Errors: parse, data, interface, memory.
---@param text string|ba.bytearray
---@param jnull? boolean false: null becomes nil
---@param depth? integer default 16
---@param name_length? integer default 255
---@return any value
---@return any ... more values, or the error
function ba.json.decode(text, jnull, depth, name_length) end

---Reads texts that come in pieces.
---@param jnull? boolean
---@param depth? integer
---@param name_length? integer
---@return ba.json.parser
function ba.json.parser(jnull, depth, name_length) end

---@class ba.json.parser
local Parser = {}

---true and the values that this piece has completed, with `list` as one array; nil and an error, then it is of no more use.
---@param chunk string|ba.bytearray
---@param list? boolean
---@return true? ok
---@return any ... values, or the error
function Parser:parse(chunk, list) end
