-- A RADIUS client (PAP) over connected datagrams, against a server at $PORT.
local PORT = tonumber(os.getenv "PORT")

local function md5(...)
  local h = ba.crypto.hash "md5"
  for _, s in ipairs {...} do h(s) end
  return h(true)
end

local function xor(a, b) return (a:gsub("()(.)", function(i, c) return string.char(c:byte() ~ b:byte(i)) end)) end

local function login(port, secret, name, password)
  local sock <close> = assert(ba.socket.udpcon("127.0.0.1", port))
  local nonce, id = ba.rndbs(16), ba.rnds(1)
  local hidden, last = "", nonce
  password = password .. ("\0"):rep(-#password % 16)
  for i = 1, #password, 16 do
    last = xor(password:sub(i, i + 15), md5(secret, last))
    hidden = hidden .. last
  end
  local body = "\1" .. string.char(#name + 2) .. name .. "\2" .. string.char(#hidden + 2) .. hidden
  assert(sock:write("\1" .. string.char(id) .. ba.socket.h2n(2, 20 + #body) .. nonce .. body))
  local answer, err = sock:read(1000)
  if not answer then return nil, err end
  if answer:sub(5, 20) ~= md5(answer:sub(1, 4), nonce, answer:sub(21), secret) then return nil, "forged" end
  return answer:byte() == 2
end

it("accept, reject, forged", function()
  assert(login(PORT, "testing123", "bob", "hello") == true)
  assert(login(PORT, "testing123", "bob", "a password that is longer than one block") == false)
  local ok, err = login(PORT, "testing123", "mallory", "hello")
  assert(not ok and err == "forged", err)
end)

it("in a cosocket", function() assert(login(PORT, "testing123", "bob", "hello") == true) end, {cosocket = true})

it("a server that is silent or absent", function()
  local ok, err = login(PORT, "testing123", "silent", "x")
  assert(not ok and err == "timeout", err)
  local probe = assert(ba.socket.udpcon("127.0.0.1", 9))
  local _, port = probe:sockname()
  probe:close()
  ok, err = login(port, "testing123", "bob", "hello")
  assert(not ok and err == "socketreadfailed", err)
end)
