-- Lua Server Pages (ba-api C.7): text with <?lsp statements ?> and <?lsp= expression ?>, made into one Lua function whose
-- lines are those of the page, so that errors name them.
local lsp = {}

-- Statements without a comment at their end, which would swallow what is put behind them.
local function without_comment(code)
  local at = 1
  while true do
    local from = code:find("[%-\"'%[]", at)
    if not from then return code end
    local c = code:sub(from, from)
    local level = code:match("^%-%-%[(=*)%[", from) or code:match("^%[(=*)%[", from)
    if level then
      local _, to = code:find("]" .. level .. "]", from, true)
      if not to then return code end
      at = to + 1
    elseif code:find("^%-%-", from) then
      local eol = code:find("\n", from, true)
      if not eol then return code:sub(1, from - 1) end
      at = eol
    elseif c == '"' or c == "'" then
      at = from + 1
      while true do
        local stop = code:find("[\\\n" .. c .. "]", at)
        if not stop then return code end
        at = stop + (code:sub(stop, stop) == "\\" and 2 or 1)
        if code:sub(stop, stop) ~= "\\" then break end
      end
    else
      at = from + 1
    end
  end
end

-- The page as Lua text of as many lines: a chunk that wants _ENV (with _emit, which writes), the page's path, and what `io`, `page` and
-- `app` are in it. nil, and the line and what is wrong there.
local function translate(text)
  local out, at = {"local _ENV,pathname,io,page,app=...;"}, 1
  while at <= #text do
    local open, behind = text:find("<?lsp", at, true)
    local piece = text:sub(at, (open or 0) - 1)
    if piece ~= "" then out[#out + 1] = (" _emit(%q);"):format(piece) end
    if not open then break end
    local close, last = text:find("?>", behind + 1, true)
    if not close then
      local _, line = text:sub(1, open):gsub("\n", "")
      return nil, line + 1, "<?lsp without ?>"
    end
    local code = without_comment(text:sub(behind + 1, close - 1))
    if code:sub(1, 1) == "=" then
      out[#out + 1] = " _emit(" .. code:sub(2) .. "); "
    else
      out[#out + 1] = " " .. code:gsub("%f[%w_]return(%s*);?(%s*)$", "do return end%1%2") .. " "
    end
    at = last + 1
  end
  return table.concat(out)
end

-- ba.parselsp(text): the page as Lua text for load, whose function is called with (_ENV, pathname, io, page, app). nil and what is
-- wrong.
function lsp.parselsp(text)
  if type(text) ~= "string" then error("parselsp: string expected, got " .. type(text), 2) end
  local code, line, why = translate(text)
  if not code then return nil, ("%d: %s"):format(line, why) end
  return code
end

-- The page as such a function; or nil and what is wrong, as "name:line: ...".
function lsp.compile(text, name)
  local code, line, why = translate(text)
  if not code then return nil, ("%s:%d: %s"):format(name, line, why) end
  return load(code, "@" .. name, "t")
end

return lsp
