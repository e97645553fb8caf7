-- What a form sends: names and values of a query, or of a body of type application/x-www-form-urlencoded.
local form = {}

local FIELDS = 1000 -- at most; what comes behind is left out

local function decode(text)
  if text:find "[+%%]" then return ba.urldecode((text:gsub("+", " "))) end
  return text
end

-- Adds {name, value} pairs to the list.
function form.parse(list, text)
  for pair in text:gmatch "[^&]+" do
    if #list >= FIELDS then break end
    local name, value = pair:match "^([^=]*)=?(.*)$"
    list[#list + 1] = {decode(name), decode(value)}
  end
  return list
end

return form
