-- ba.create.jsonuser: users with their roles in a table or as JSON, and what roles may do, for directories (ba-api C.7):
--
--   local users = ba.create.jsonuser()
--   assert(users:set {joe = {pwd = "secret", roles = {"guest"}}})
--   local rights = users:authorizer()
--   assert(rights:set {reading = {urls = {"/*"}, methods = {"GET", "HEAD"}, roles = {"guest"}}})
--   dir:setauth(ba.create.authenticator(users), rights)
local auth = require "cosock.http.auth"
local dir = require "cosock.http.dir"

local jsonuser = {}

-- A list of strings?
local function is_list(t)
  if type(t) ~= "table" then return false end
  for key, value in pairs(t) do
    if math.type(key) ~= "integer" or type(value) ~= "string" then return false end
  end
  return true
end

-- The table that was given, or that the text is; each of its entries has passed wrong(entry), which says what is wrong.
-- nil and what is wrong.
local function read(given, wrong)
  local t, err, why = given, nil, nil
  if type(given) == "string" then t, err, why = ba.json.decode(given, false) end
  if type(t) ~= "table" then return nil, why or err or "a table or its JSON expected" end
  for name, entry in pairs(t) do
    why = type(name) ~= "string" and "a name expected" or type(entry) ~= "table" and "a table expected" or wrong(entry)
    if why then return nil, ("%s: %s"):format(name, why) end
  end
  return t
end

local function is_hash(pwd) return type(pwd) == "table" and type(pwd[1]) == "string" and #pwd[1] == 32 and pwd[1]:find "^%x+$" end

local function wrong_user(user)
  if type(user.pwd) ~= "string" and not is_hash(user.pwd) then return "pwd: a password, or a list with its HA1 (32 hex digits), expected" end
  if not is_list(user.roles) then return "roles: a list of names expected" end
  if user.inactive and not math.tointeger(user.inactive) then return "inactive: seconds expected" end
  return nil
end

local function wrong_constraint(constraint)
  for _, name in ipairs {"urls", "methods", "roles"} do
    if not is_list(constraint[name]) then return name .. ": a list expected" end
  end
  return nil
end

local function set_of(list)
  local set = {}
  for _, value in pairs(list) do set[value] = true end
  return set
end

-- How well a pattern ("/family/*", "/a.html") fits a path: by its length; nil: not at all.
local function fit(pattern, path)
  local folder = pattern:match "^(.*)%*$"
  if not folder then return pattern == path and #pattern + 1 or nil end
  return (path:sub(1, #folder) == folder or path .. "/" == folder) and #folder or nil
end

-- {pattern, methods, roles} of each constraint's each pattern.
local function rules_of(constraints)
  local rules = {}
  for _, constraint in pairs(constraints) do
    for _, pattern in pairs(constraint.urls) do
      rules[#rules + 1] = {pattern = pattern, methods = set_of(constraint.methods), roles = set_of(constraint.roles)}
    end
  end
  return rules
end

-- Of the rules for that method those whose pattern fits best decide; where none does nobody may.
local function may(rules, lower, roles, method, path)
  local best, yes = -1, false
  for _, rule in ipairs(rules) do
    local n = rule.methods[method] and fit(lower and rule.pattern:lower() or rule.pattern, lower and path:lower() or path)
    if n and n >= best then
      if n > best then best, yes = n, false end
      for _, role in pairs(roles) do yes = yes or rule.roles[role] == true end
    end
  end
  return yes
end

local function authorizer(state)
  local rules, lower = {}, false
  local self = dir.authorizer(function(name, method, path)
    local user = name and state.users[name]
    return user ~= nil and may(rules, lower, user.roles, method, "/" .. path)
  end)

  -- {name = {urls = {...}, methods = {...}, roles = {...}}} or its JSON. true; nil and what is wrong; then nothing has changed.
  function self:set(given)
    local constraints, why = read(given, wrong_constraint)
    if not constraints then return nil, why end
    rules = rules_of(constraints)
    return true
  end

  -- Whether urls are compared letter by letter, which is so at first.
  function self:casesensitive(on)
    if on ~= nil then lower = not on end
    return not lower
  end

  return self
end

-- Users for ba.create.authenticator, at first none.
function jsonuser.jsonuser()
  local state = {users = {}}
  local self = auth.authuser(function(name)
    local user = state.users[name]
    if user then return user.pwd, nil, nil, user.inactive end
  end)

  -- {name = {pwd = "password" or {HA1}, roles = {...} [, inactive = seconds]}} or its JSON. true; nil and what is wrong; then nothing
  -- has changed.
  function self:set(given)
    local users, why = read(given, wrong_user)
    if not users then return nil, why end
    state.users, self.hashed = users, false
    for _, user in pairs(users) do self.hashed = self.hashed or is_hash(user.pwd) ~= false end
    return true
  end

  function self:authorizer() return authorizer(state) end

  return self
end

return jsonuser
