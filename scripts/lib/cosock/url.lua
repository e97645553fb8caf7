-- URLs with a host (RFC 3986), as HTTP and WebSockets use them.
local url = {}

local PORTS = {http = 80, https = 443, ws = 80, wss = 443}

-- What may not stand in a request's target is percent-encoded; a "%" is left as it is.
local function encode(target)
  return (target:gsub("[^%w%-._~:/?%[%]@!$&'()*+,;=%%]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- {scheme, host, port, target, user, password}: host without the brackets of an IPv6 address, target "/path?query", user and
-- password nil when there are none. nil, "invalidurl" when it is none, or has a scheme whose port is not known.
function url.parse(text)
  local scheme, authority, rest = text:match "^(%a[%w+.-]*)://([^/?#]*)([^#]*)"
  if not scheme or text:find "%c" then return nil, "invalidurl" end
  local userinfo, at = authority:match "^(.*)@([^@]*)$"
  local host, port = (at or authority):match "^%[([%x:.]+)%]:?(%d*)$"
  if not host then host, port = (at or authority):match "^([%w._-]+):?(%d*)$" end
  scheme = scheme:lower()
  port = port ~= "" and tonumber(port) or PORTS[scheme]
  if not host or not port or port == 0 or port > 65535 then return nil, "invalidurl" end
  local user, password
  if userinfo then
    user, password = userinfo:match "^([^:]*):?(.*)$"
    user, password = ba.urldecode(user), ba.urldecode(password)
  end
  return {scheme = scheme, host = host, port = port, user = user, password = password,
          target = encode((rest:find "^/" and "" or "/") .. rest)}
end

-- The host as it stands in a URL or a Host field, with the port unless it is the scheme's own.
function url.authority(to)
  local host = to.host:find ":" and "[" .. to.host .. "]" or to.host
  return to.port == PORTS[to.scheme] and host or host .. ":" .. to.port
end

-- The path without its "." and ".." segments.
local function remove_dots(path)
  local out = {}
  for slash, segment in path:gmatch "(/)([^/]*)" do
    if segment == ".." then
      table.remove(out)
    elseif segment ~= "." then
      out[#out + 1] = slash .. segment
    end
  end
  return table.concat(out) .. ((path:find "/%.%.?$" or #out == 0) and "/" or "")
end

-- What `reference` (of a Location field, say) means in a document at `base`.
function url.resolve(base, reference)
  reference = reference:gsub("#.*$", "")
  if reference:find "^%a[%w+.-]*:" then return reference end
  local scheme, authority, path = base:match "^(%a[%w+.-]*:)//([^/?#]*)([^?#]*)"
  if reference:find "^//" then return scheme .. reference end
  if reference == "" then return (base:gsub("#.*$", "")) end
  local place, query = reference:match "^([^?]*)(.*)$"
  if place == "" then
    place = path
  elseif not place:find "^/" then
    place = (path:match "^.*/" or "/") .. place
  end
  return scheme .. "//" .. authority .. remove_dots(place) .. query
end

-- "a=1&b=2" of a table; a list gives a name several values. In the order of the names.
function url.query(values)
  local names, parts = {}, {}
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    local list = values[name]
    for _, value in ipairs(type(list) == "table" and list or {list}) do
      parts[#parts + 1] = ba.urlencode(tostring(name)) .. "=" .. ba.urlencode(tostring(value))
    end
  end
  return table.concat(parts, "&")
end

-- The URL with the query of such a table behind the one it has.
function url.with_query(text, values)
  local query = values and url.query(values) or ""
  if query == "" then return text end
  local place, fragment = text:match "^([^#]*)(.*)$"
  return place .. (place:find("?", 1, true) and "&" or "?") .. query .. fragment
end

local function decode(text) return ba.urldecode((text:gsub("+", " "))) end

-- The table of such a text.
function url.parse_query(query)
  local values = {}
  for name, value in query:gmatch "([^&=]+)=?([^&]*)" do
    name, value = decode(name), decode(value)
    local old = values[name]
    if type(old) == "table" then
      old[#old + 1] = value
    else
      values[name] = old and {old, value} or value
    end
  end
  return values
end

-- The URL without its query, and the query as such a table; nil when it has none.
function url.split(text)
  local place, query = text:match "^([^?#]*)%??([^#]*)"
  return place, query ~= "" and url.parse_query(query) or nil
end

return url
