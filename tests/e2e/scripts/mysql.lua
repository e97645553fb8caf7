-- A MySQL client (4.1 protocol, mysql_native_password), against a real server at $PORT; in a job and in a cosocket.
local PORT = tonumber(os.getenv "PORT")

local Db = {}
Db.__index = Db

local function little(size, n) return string.pack("<I" .. size, n) end

function Db:read(n)
  while #self.rest < n do
    local parts, have = {self.rest}, #self.rest
    while have < n do
      local data = assert(self.sock:read(10000))
      parts[#parts + 1], have = data, have + #data
    end
    self.rest = table.concat(parts)
  end
  local data = self.rest:sub(1, n)
  self.rest = self.rest:sub(n + 1)
  return data
end

function Db:packet()
  local n, sequence = string.unpack("<I3B", self:read(4))
  self.sequence = sequence + 1
  local body = self:read(n)
  if n == 0xffffff then body = body .. self:packet() end
  return body
end

function Db:send(body)
  assert(self.sock:write(little(3, #body) .. string.char(self.sequence) .. body))
end

local function scramble(password, seed)
  local function sha1(...)
    local h = ba.crypto.hash "sha1"
    for _, s in ipairs {...} do h(s) end
    return h(true)
  end
  local a = sha1(password)
  local b = sha1(seed, sha1(a))
  return (a:gsub("()(.)", function(i, c) return string.char(c:byte() ~ b:byte(i)) end))
end

local function integer(text, at) -- length-encoded; nil: NULL
  local first = text:byte(at)
  if first < 0xfb then return first, at + 1 end
  if first == 0xfb then return nil, at + 1 end
  local size = ({[0xfc] = 2, [0xfd] = 3, [0xfe] = 8})[first]
  return string.unpack("<I" .. size, text, at + 1), at + 1 + size
end

local function failure(body) return nil, body:sub(10), (string.unpack("<I2", body, 2)) end

local function connect(user, password, database)
  local sock, err = ba.socket.connect("127.0.0.1", PORT)
  if not sock then return nil, err end
  local db = setmetatable({sock = sock, rest = ""}, Db)
  local hello = db:packet()
  local version, at = string.unpack("z", hello, 2)
  local seed = hello:sub(at + 4, at + 11) .. hello:sub(at + 31, at + 42)
  db.version = version
  db:send(little(4, 0x000fa20d) .. little(4, 0xffffff) .. "\33" .. ("\0"):rep(23) .. user .. "\0\20" .. scramble(password, seed) ..
          database .. "\0mysql_native_password\0")
  local answer = db:packet()
  if answer:byte() == 0xff then return failure(answer) end
  if answer:byte() == 0xfe then -- another seed
    local _, from = string.unpack("z", answer, 2)
    db:send(scramble(password, answer:sub(from, from + 19)))
    answer = db:packet()
    if answer:byte() == 0xff then return failure(answer) end
  end
  return db
end

function Db:query(text)
  self.sequence = 0
  self:send("\3" .. text)
  local body = self:packet()
  local kind = body:byte()
  if kind == 0xff then return failure(body) end
  if kind == 0 then return {} end
  local columns = integer(body, 1)
  for _ = 1, columns do self:packet() end
  self:packet()
  local rows = {}
  while true do
    body = self:packet()
    if body:byte() == 0xfe and #body < 9 then return rows end
    local row, at = {}, 1
    for i = 1, columns do
      local n
      n, at = integer(body, at)
      if n then
        row[i] = body:sub(at, at + n - 1)
        at = at + n
      end
    end
    rows[#rows + 1] = row
  end
end

local function both(name, f)
  it(name .. " (job)", f, {timeout = 30000})
  it(name .. " (cosocket)", f, {cosocket = true, timeout = 30000})
end

both("rows there and back", function()
  local db = assert(connect("tester", "secret", "test"))
  assert(db:query "create or replace table t (id int primary key, name varchar(100), b longblob)")
  for i = 1, 40 do assert(db:query(("insert into t values (%d, 'n%d', repeat('x', %d))"):format(i, i, i * 2000))) end
  assert(db:query "insert into t values (41, null, '')")
  local rows = assert(db:query "select * from t order by id")
  assert(#rows == 41 and rows[41][2] == nil and rows[41][3] == "")
  for i = 1, 40 do assert(rows[i][2] == "n" .. i and rows[i][3] == ("x"):rep(i * 2000)) end
  db.sock:close()
end)

it("errors", function()
  local db, err, code = connect("tester", "wrong", "test")
  assert(not db and code == 1045, err)
  db = assert(connect("tester", "secret", "test"))
  local rows
  rows, err, code = db:query "select nonsense from nowhere"
  assert(not rows and code == 1146, err)
  assert(assert(db:query "select 1")[1][1] == "1")
  db.sock:close()
end)

it("slow queries hold up nobody", function()
  local done, began = 0, ba.clock()
  for _ = 1, 10 do
    ba.thread.run(function()
      local db = assert(connect("tester", "secret", "test"))
      assert(assert(db:query "select sleep(0.5)")[1][1] == "0")
      db.sock:close()
      done = done + 1
    end)
  end
  while done < 10 do ba.sleep(5) end
  assert(ba.clock() - began < 4000)
end)
