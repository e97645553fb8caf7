---@meta

-- ba.bytearray: storage of a fixed size, seen through a window. Positions count from 1 within the window. A byte array is
-- taken wherever this API takes a string.

---@class ba.bytearray
---@field [integer] integer|nil a byte; assigned: a number, string, byte array or list of numbers, stored from here on. Raises when it does not fit
---@operator len: integer

ba.bytearray = {}

---@param what integer|string a size (zeros), or what to copy
---@return ba.bytearray
function ba.bytearray.create(what) end

---Copies what fits.
---@param to ba.bytearray
---@param n integer where to
---@param source string|ba.bytearray
---@param i? integer
---@param j? integer
---@return integer rest bytes that did not fit
function ba.bytearray.copy(to, n, source, i, j) end

---Stores an integer, big-endian. Raises when it does not fit.
---@param a ba.bytearray
---@param n integer where to
---@param size integer bytes, 1 to 8
---@param value number
function ba.bytearray.h2n(a, n, size, value) end

---Reads an unsigned big-endian integer.
---@param a ba.bytearray
---@param n integer where
---@param size integer bytes, 1 to 8
---@return integer
function ba.bytearray.n2h(a, n, size) end

---Sets the window, in positions of the storage; without numbers to all of it.
---@param a ba.bytearray
---@param i? integer
---@param j? integer
function ba.bytearray.setsize(a, i, j) end

---@param a ba.bytearray
---@return integer size of the storage
---@return integer first of the window
---@return integer last of the window
function ba.bytearray.size(a) end

---@param a ba.bytearray
---@param i? integer as in string.sub
---@param j? integer
---@return string
function ba.bytearray.tostring(a, i, j) end
