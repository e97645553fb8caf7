-- Paths of URLs, safe to look up in a folder.
local path = {}

-- The path and the query (or nil) of a request's target.
function path.split(target)
  local rest = target:match "^%a+://[^/?]*(.*)$"
  if rest then target = rest:find "^/" and rest or "/" .. rest end
  local mark = target:find("?", 1, true)
  if not mark then return target, nil end
  return target:sub(1, mark - 1), target:sub(mark + 1)
end

-- Without "." and ".." and empty parts; a slash at the beginning stays, and one at the end. And whether a ".." had nothing before it.
function path.without_dots(text)
  local parts, beyond = {}, false
  for part in text:gmatch "[^/]+" do
    if part == ".." then
      beyond = beyond or not parts[1]
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  local folder = text:find "/%.?%.?$" and parts[1]
  return (text:find "^/" and "/" or "") .. table.concat(parts, "/") .. (folder and "/" or ""), beyond
end

-- Decoded and without dots, beginning with a slash. nil: there is no such path.
function path.clean(raw)
  if not raw:find "[%%\\]" and not raw:find "/[./]" then return raw:sub(1, 1) == "/" and raw or nil end
  if raw:gsub("%%%x%x", ""):find("%", 1, true) then return nil end
  local text = ba.urldecode(raw)
  if text:find "[%z\\]" or text:sub(1, 1) ~= "/" then return nil end
  local clean, beyond = path.without_dots(text)
  return not beyond and clean or nil
end

-- For a URL: everything encoded that could end it in a header or in HTML.
function path.encode(clean)
  return (clean:gsub("[^%w%-._~/!$*+,;=:@]", function(c) return ("%%%02X"):format(c:byte()) end))
end

return path
