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

-- The page as Lua text, and the pieces of plain text in it.
local function translate(text)
  local out, plain, at = {"return function(_ENV,__x,__t,...)"}, {}, 1
  while at <= #text do
    local open, behind = text:find("<?lsp", at, true)
    local piece = text:sub(at, (open or 0) - 1)
    if piece ~= "" then
      plain[#plain + 1] = piece
      out[#out + 1] = (" __x:write(__t[%d]) %s"):format(#plain, ("\n"):rep(select(2, piece:gsub("\n", ""))))
    end
    if not open then break end
    local close, last = text:find("?>", behind + 1, true)
    if not close then
      local _, line = text:sub(1, open):gsub("\n", "")
      return nil, line + 1, "<?lsp without ?>"
    end
    local code = without_comment(text:sub(behind + 1, close - 1))
    if code:sub(1, 1) == "=" then
      out[#out + 1] = " __x:write(" .. code:sub(2) .. ") "
    else
      out[#out + 1] = " " .. code:gsub("%f[%w_]return(%s*);?(%s*)$", "do return end%1%2") .. " "
    end
    at = last + 1
  end
  out[#out + 1] = " end"
  return table.concat(out), plain
end

-- A function f(env, exchange) that runs the page; or nil and what is wrong, as "name:line: ...".
function lsp.compile(text, name)
  local code, plain, why = translate(text)
  if not code then return nil, ("%s:%d: %s"):format(name, plain, why) end
  local chunk, err = load(code, "@" .. name)
  if not chunk then return nil, err end
  local page = chunk()
  return function(env, x) page(env, x, plain) end
end

return lsp
