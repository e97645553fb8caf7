---@meta

-- io objects: folders, and files in them. Errors: notfound, noaccess, invalidname, exist, notempty, nospace, ioerror.

---All of them by name.
---@return table<string, ba.io>
function ba.io() end

---An io object: "disk" and "home" for the data folder, "vm" for the server's own; nil for other names.
---@param name string
---@return ba.io? io
function ba.openio(name) end

---An io object for a folder inside another, or for a ZIP file there, to read; extension: for any folder of the system, when it is given alone.
---@param io ba.io|string
---@param path? string
---@return ba.io? io
---@return string? err
function ba.mkio(io, path) end

---@class ba.io
local Io = {}

---@param path string
---@param mode? "r"|"w"|"a"|"r+"|"w+"|"a+" default "r"
---@return ba.io.file? file
---@return string? err
function Io:open(path, mode) end

---Names in a folder; with true also whether it is a folder, its time (seconds) and its size (bytes).
---@param path? string
---@param details? boolean
---@return fun(): string?, boolean?, integer?, integer?
function Io:files(path, details) end

---@param path string
---@return {name: string, mtime: integer, size: integer, isdir: boolean, type: string}?
---@return string? err
function Io:stat(path) end

---@param path string
---@return true? ok
---@return string? err
function Io:mkdir(path) end

---@param path string
---@return true? ok
---@return string? err
function Io:rmdir(path) end

---@param path string
---@return true? ok
---@return string? err
function Io:remove(path) end

---@param from string
---@param to string
---@return true? ok
---@return string? err
function Io:rename(from, to) end

---The path in the system.
---@param path string
---@return string? path
---@return string? err
function Io:realpath(path) end

---Compiles a file.
---@param path string
---@param env? table its globals
---@return function? chunk
---@return string? err
function Io:loadfile(path, env) end

---Compiles and runs a file; raises what goes wrong.
---@param path string
---@param env? table its globals
---@return any ...
function Io:dofile(path, env) end

---@return string
function Io:type() end

---@return string
function Io:resourcetype() end

---@class ba.io.file
local File = {}

---n bytes, "a" all; without an argument what one buffer holds. nil at the end.
---@param ... integer|"a"|"*a"
---@return string? data
---@return string? err
function File:read(...) end

---@param ... string|number
---@return true? ok
---@return string? err
function File:write(...) end

---@param position integer bytes from the beginning
---@return integer? position
---@return string? err
function File:seek(position) end

---@return true? ok
---@return string? err
function File:flush() end

---@return true? ok
---@return string? err
function File:close() end
