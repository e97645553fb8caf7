-- require "http" with what one does most: look, post a form, fetch JSON, upload and download files. docs/httpc.md says all of it.
local http = require "http"
local url = require "cosock.url"

local httpm = {}
local methods = setmetatable({}, {__index = http.getmetatable()})
local meta = {__index = methods, __name = "httpm", __close = function(self) self:close() end}

local PIECE = 65536

local function with(op, fields)
  local all = {}
  for k, v in pairs(fields) do all[k] = v end
  for k, v in pairs(op or {}) do all[k] = v end
  return all
end

-- {mtime =, size =}, as far as the server says; nil and the status, or nil, err. By HEAD, unless op.method says otherwise.
function methods:stat(where, op)
  local ok, err, why = self:request(with(op, {url = where, method = "HEAD"}))
  if not ok then return nil, err, why end
  local status = self:status()
  if not status or status >= 300 then return nil, status or 0 end
  local date = self:header "last-modified"
  return {size = math.tointeger(tonumber(self:header "content-length")), mtime = date and ba.parsedate(date) or nil}
end

-- Posts a form. The status and the body of the answer; nil, err; of a redirect nil, the status and where to.
function methods:post(where, form, op)
  local body = url.query(form)
  op = with(op, {url = where, method = "POST", size = #body})
  op.header = with(op.header, {["Content-Type"] = "application/x-www-form-urlencoded"})
  local ok, err, why = self:request(op)
  if ok then ok, err = self:write(body) end
  if not ok and math.type(err) ~= "integer" then return nil, err, why end -- a status is an answer
  local status, to
  status, err, to = self:status()
  if not status then return nil, err, to end
  local text
  text, err = self:read "a"
  if not text then return nil, err end
  return status, text
end

-- The value that a GET gives as JSON. data: for the query. op.jnull: as for ba.json.decode. nil, err; nil, status, text.
function methods:json(where, data, op)
  op = with(op, {url = where, query = data})
  local ok, err, why = self:request(op)
  if not ok then return nil, err, why end
  local text
  text, err = self:read "a"
  if not text then return nil, err end
  local status = self:status()
  if status and status >= 300 then return nil, status, text end
  local value
  value, err, why = ba.json.decode(text, op.jnull or false)
  if value == nil and err then return nil, "json", err, why end
  return value
end

-- The file of an upload or a download: what is given, or opened. Has to be closed.
local function open(conf, mode)
  if conf.fp then return conf.fp end
  return conf.io:open(conf.name, mode)
end

local function size_of(conf)
  local st = not conf.fp and conf.io:stat(conf.name)
  return conf.size or st and st.size or nil
end

-- Sends a file, by PUT unless op.method says otherwise. conf: fp [, size], or io and name; url; func(size, sent). fp is closed. True;
-- nil, err; nil and the status of a server that refuses. After a redirect true, and status() says where to.
function methods:upload(conf, op)
  local fp, err, why = open(conf, "r")
  if not fp then return nil, err, why end
  local size, sent, ok = size_of(conf), 0, nil
  ok, err, why = self:request(with(op, {url = conf.url, method = "PUT", size = size}))
  while ok do
    local data, failed, more = fp:read(PIECE)
    if failed then
      self:close() -- a part must not look like the whole
      ok, err, why = nil, failed, more
    end
    if not data then break end
    ok, err = self:write(data)
    sent = sent + #data
    if ok and conf.func then conf.func(size, sent) end
  end
  fp:close()
  if not ok and math.type(err) ~= "integer" then return nil, err, why end
  local status, code, to = self:status()
  if not status and not to then return nil, code end -- also when it was a proxy that refused
  if (status or 0) >= 300 then return nil, status end
  return true
end

-- Fetches a file. conf: fp, or io and name; url; func(size, received), size nil when it is not known. fp is closed. True; nil, err;
-- nil and the status: then nothing was written. A file that was opened here and is not whole is removed.
function methods:download(conf, op)
  local ok, err, why = self:request(with(op, {url = conf.url}))
  local status
  if ok then status, err, why = self:status() end
  if not status or status < 200 or status >= 300 then
    if conf.fp then conf.fp:close() end
    return nil, status or err, why
  end
  local fp
  fp, err, why = open(conf, "w")
  if not fp then return nil, err, why end
  local size, received, data = math.tointeger(tonumber(self:header "content-length")), 0, nil
  repeat
    data, err = self:read(PIECE)
    if data then
      ok, err, why = fp:write(data)
      received = received + #data
      if ok and conf.func then conf.func(size, received) end
    end
  until not data or not ok
  local _, failed, more = fp:close()
  if not err then err, why = failed, more end
  if not err then return true end
  if not conf.fp then conf.io:remove(conf.name) end
  return nil, err, why
end

-- op: what httpc.create takes, and defaults for requests.
function httpm.create(op, method_op)
  if op == httpm then op = method_op end -- written httpm:create(op)
  return setmetatable(http.create(op), meta)
end

return httpm
