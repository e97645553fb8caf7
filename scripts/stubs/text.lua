---@meta

-- Texts: base64, URLs, compression, media types, addresses; the version.

---@param s string
---@return string
function ba.b64encode(s) end

---Both alphabets; nil, "invalidparam" when it is no base64.
---@param s string
---@return string? data
---@return "invalidparam"? err
function ba.b64decode(s) end

---With the alphabet of URLs, unpadded.
---@param s string
---@return string
function ba.b64urlencode(s) end

---@param s string
---@return string
function ba.urlencode(s) end

---@param s string
---@return string
function ba.urldecode(s) end

---Compressed: RFC 1951.
---@param s string|string[] at most 16 MiB
---@param zlib? boolean with the head and tail of RFC 1950
---@return string
function ba.deflate(s, zlib) end

---Extension: a function for one compressed stream: what the bytes become, and whether that was the end.
---@param zlib? boolean with the head and tail of RFC 1950
---@return fun(s: string): string?, boolean|"invalidparam"|"toomuchdata"
function ba.inflate(zlib) end

---The media type of a file name's extension, and whether it is known.
---@param extension string
---@return string
---@return boolean
function ba.mime(extension) end

---Whether two texts are the same IP address; IPv4 in IPv6's clothes counts as IPv4.
---@param ip1 string
---@param ip2 string
---@return boolean
function ba.cmpaddr(ip1, ip2) end

---The level of the API, Lua's number, when it was built.
---@return integer
---@return integer
---@return string
function ba.version() end
