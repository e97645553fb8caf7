-- certificates (ba-api C.3, B.3): ba.create.key, csr, certificate, sharkcert, certstore; ba.parsecert, ba.parsecerttime
local check = require "check"
local eq, ok, raises, results = check.eq, check.ok, check.raises, check.results

-- os.date"*t" `days` from now
local function date(days) return os.date("!*t", os.time() + days * 86400) end

-- PEM certificate and key; `by` = {cert, key}: who signs it
local function make(dn, san, options)
  options = options or {}
  local key = ba.create.key(options.key)
  local csr = ok(ba.create.csr(key, dn, san, options.type or {"SSL_SERVER"}, options.usage or {"DIGITAL_SIGNATURE"}))
  local by = options.by
  if by then return ok(ba.create.certificate(csr, by[1], by[2], date(-1), date(options.days or 60), 2)), key end
  return ok(ba.create.certificate(csr, key, date(-1), date(options.days or 60), 1)), key
end

local function der(pem)
  local b64 = pem:match("BEGIN.-\n%s*(.-)\n%s*%-%-"):gsub("%s", "")
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local bits, n, out = 0, 0, {}
  for c in b64:gmatch("[^=]") do
    bits, n = bits << 6 | (alphabet:find(c, 1, true) - 1), n + 6
    if n >= 8 then
      n = n - 8
      out[#out + 1] = string.char(bits >> n & 255)
    end
  end
  return table.concat(out)
end

local function write(name, text)
  local f = assert(_G.io.open(name, "wb"))
  f:write(text)
  f:close()
  return name
end

-- a folder name of this run, below the current one
local prefix = ("cert-%d-%s-"):format(os.time(), tostring({}):match("0x%x+"))
local files = {}
local function file(name, text)
  files[#files + 1] = prefix .. name
  return write(prefix .. name, text)
end

local function is_rsa(key) return #key > 1600 and key:find("^%-%-%-%-%-BEGIN PRIVATE KEY") end

-- Together these take several times the CPU budget.
check.job("others run while RSA keys are made", function()
  check.others_run(function()
    for _ = 1, 4 do ok(is_rsa(ba.create.key {key = "rsa"})) end
  end)
end)

check.job("a socket is served while several wait for keys", function()
  local listener, port = check.listen(check.echo)
  local made = 0
  for _ = 1, 2 do
    ba.thread.run(function()
      local key = ba.create.key {key = "rsa"}
      local csr = ok(ba.create.csr(key, {commonname = "x"}, {}, {}))
      ok(ba.create.certificate(csr, key, date(0), date(1), 1))
      made = made + 1
    end)
  end
  local sock, before = ok(ba.socket.connect("127.0.0.1", port)), nil
  ok(sock:write "x")
  eq(sock:read(), "x")
  before = made
  check.wait(function() return made == 2 end, "two keys")
  ok(before < 2, before)
  sock:close()
  listener:close()
end)

check.job("where nobody can wait, a key is made in place and counts for no budget", function()
  local function in_place()
    local keys = {}
    table.sort({1, 2}, function(a, b) -- Lua cannot suspend a comparator
      for i = 1, 3 do keys[i] = ba.create.key {key = "rsa"} end
      return a < b
    end)
    return keys
  end
  local keys = in_place()
  eq(#keys, 3)
  for _, key in ipairs(keys) do ok(is_rsa(key)) end
end)

check.job("keys are PEM", function()
  for _, op in ipairs {{}, {key = "ecc"}, {curve = "SECP384R1"}, {curve = "SECP521R1"}} do
    ok(ba.create.key(op):find("^%-%-%-%-%-BEGIN PRIVATE KEY"))
  end
  ok(ba.create.key() ~= ba.create.key())
  results({nil, "noimplementation"}, ba.create.key {curve = "BRAINPOOLP256R1"})
  raises("bits", ba.create.key, {key = "rsa", bits = 512})
  raises("key", ba.create.key, {key = "dsa"})
end)

check.job("a certificate says what was asked for", function()
  local cert, key = make({commonname = "localhost", organization = "Org", unit = "U", locality = "L", province = "P",
                          countryname = "DE", email = "a@b.example"}, "localhost;IP:127.0.0.1;URI:urn:x")
  local info = ok(ba.parsecert(der(cert)))
  for name, value in pairs {commonname = "localhost", organization = "Org", unit = "U", locality = "L", province = "P",
                            countryname = "DE", email = "a@b.example"} do
    eq(info.subject[name], value, name)
    eq(info.issuer[name], value, name)
  end
  eq(table.concat(info.san, ";"), "localhost;IP:127.0.0.1;URI:urn:x")
  eq(info.key, "EC P-256")
  eq(info.serial, "01")
  eq(info.ca, false)
  eq(#info.sha256, 64)
  ok(math.abs(ba.parsecerttime(info.tzfrom) - (os.time() - 86400)) < 100)
  ok(math.abs(ba.parsecerttime(info.tzto) - (os.time() + 60 * 86400)) < 100)
  eq(ba.parsecert(cert).sha256, info.sha256, "PEM works too")
  ok(tostring(ba.create.sharkcert(cert, key)):find("localhost"))
end)

check.job("without a SAN it is the common name", function()
  local key = ba.create.key()
  local csr = ba.create.csr(key, {commonname = "a.example"}, {"SSL_CLIENT", "SSL_SERVER"},
                            {"DIGITAL_SIGNATURE", "KEY_ENCIPHERMENT"}, "sha384")
  local cert = ok(ba.create.certificate(csr, key, {year = 2024, month = 2}, {year = 2025.0, month = 3, day = 4}, 9))
  local info = ba.parsecert(cert)
  eq(info.san[1], "a.example")
  eq(info.tzfrom, "240201000000Z")
  eq(info.tzto, "250304000000Z")
  cert = ok(ba.create.certificate(csr, key, date(0), {year = 2049, month = 14, day = 32, sec = -1}, 9))
  eq(ba.parsecert(cert).tzto, "20500303235959Z", "as os.time takes it")
  for _, last in ipairs {{year = 9999, month = 12, day = 32}, {year = 2024, month = -2^31}, {year = 2024, month = 1, day = 2^40}} do
    raises("date out of range", ba.create.certificate, csr, key, date(0), last, 9)
  end
end)

check.job("a CA signs", function()
  local ca, ca_key = make({commonname = "CA"}, nil, {type = {"SSL_CA"}, usage = {"KEY_CERT_SIGN", "CRL_SIGN"}})
  local cert, key = make({commonname = "x.example"}, "x.example", {by = {ca, ca_key}})
  eq(ba.parsecert(ca).ca, true)
  eq(ba.parsecert(cert).issuer.commonname, "CA")
  ok(ba.create.sharkcert(cert .. ca, key))
  local csr = ba.create.csr(key, {commonname = "y"}, {}, {})
  results({nil, "pem_key_cert_mismatch"}, ba.create.certificate(csr, ca, key, date(0), date(1), 3))
end)

-- openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:secret
local encrypted = [[
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgAkoNKPQW23AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKM/wbznvPJ9SOKc8XcdzrwEgZAJ
ImKbpGwkGz3MK8KbETBn/W+4XkwyYy+GopYwbz7T4TYeaLxZHSwD7zDc4X1Ai9lW
yTc3ksLr+eE4WCOsS+7YY05YEjJcULA6nO4rMVf841dlW0JK1beLt8Qd4unukoP7
kZrHen5G6DZSoiGr63SeCbU1MXgXMmuEhbulbgAo6lV4Ec9MUaS6Km2kEpzVdIo=
-----END ENCRYPTED PRIVATE KEY-----
]]

check.job("encrypted keys and their password", function()
  local cert, plain = make {commonname = "x"}
  ok(ba.create.sharkcert(cert, plain, "sharkssl"), "an unneeded password is ignored")
  local csr = ok(ba.create.csr({key = encrypted, pwd = "secret"}, {commonname = "y"}, {}, {}))
  local signed = ok(ba.create.certificate(csr, {key = encrypted, pwd = "secret"}, date(-1), date(1), 5))
  ok(ba.create.sharkcert(signed, encrypted, "secret"))
  results({nil, "pem_key_passphrase_required"}, ba.create.sharkcert(signed, encrypted))
  results({nil, "pem_key_parse_error"}, ba.create.sharkcert(signed, encrypted, "wrong"))
  local c, k = file("signed.pem", signed), file("encrypted.pem", encrypted)
  ok(ba.create.sharkcert {cert = c, key = k, password = "secret"})
  ok(ba.create.sharkcert {cert = c, key = k, password_file = file("password", "secret\nnot this\n")})
  results({nil, "pem_key_parse_error"}, ba.create.sharkcert {cert = c, key = k, password_file = file("empty", "")})
  results({nil, "notfound"}, ba.create.sharkcert {cert = c, key = k, password_file = prefix .. "none"})
end)

check.job("what is wrong has a name", function()
  local cert, key = make {commonname = "x"}
  local _, other = make {commonname = "y"}
  local function fails(code, ...)
    local c, err, text = ba.create.sharkcert(...)
    eq(c, nil)
    eq(err, code)
    ok(type(text) == "string" and #text > 5)
    return text
  end
  fails("pem_key_cert_mismatch", cert, other)
  fails("pem_cert_unrecognized_format", "", key)
  fails("pem_cert_unrecognized_format", key, key)
  fails("pem_key_unrecognized_format", cert, cert)
  fails("pem_key_unrecognized_format", cert, "rubbish")
  local c, k, o = file("c.pem", cert), file("k.pem", key), file("o.pem", other)
  ok(fails("pem_key_cert_mismatch", {cert = c, key = o}):find(o, 1, true), "the file is named")
  ok(fails("notfound", {cert = c, key = prefix .. "none"}):find(prefix .. "none", 1, true))
  ok(fails("notfound", {cert = prefix .. "none", key = k}):find(prefix .. "none", 1, true))
  fails("noaccess", {cert = "/", key = k})
  ok(ba.create.sharkcert {cert = c, key = k})
  ok(ba.create.sharkcert {cert = file("both.pem", cert .. key)})
  local disk = ba.openio "disk"
  ok(ba.create.sharkcert(disk, c, k))
  ok(fails("notfound", disk, c, "none"))
  fails("noaccess", disk, "../x", k)
  raises("cert", ba.create.sharkcert, {})
  raises("string expected", ba.create.sharkcert, cert)
  raises("io expected", ba.create.sharkcert, ba.create.certstore(), "a", "b")
end)

check.job("stores take many forms", function()
  local a, b = make {commonname = "A"}, make {commonname = "B"}
  local store = ba.create.certstore()
  eq(#store, 0)
  eq(store:addcert(a .. b), 2)
  eq(store:addcert(ba.openio "disk", file("a.pem", a)), 1)
  eq(store:addcert {file = file("b.pem", b)}, 1)
  eq(store:addcert(der(a)), 1)
  eq(#store, 5)
  results({nil, "pem_cert_unrecognized_format"}, store:addcert "rubbish")
  local n, err, text = store:addcert {file = prefix .. "none"}
  eq(n, nil)
  eq(err, "notfound")
  ok(text:find(prefix .. "none", 1, true))
  raises("missing", store.addcert, store, {})
end)

check.job("times", function()
  eq(ba.parsecerttime "700101000001Z", 1)
  eq(ba.parsecerttime "20261122093000Z", 1795339800)
  eq(ba.parsecerttime "soon", 0)
  results({nil, "pem_cert_unrecognized_format"}, ba.parsecert "rubbish")
end)

check.job("the server's own pair is made once", function()
  local vm = ba.openio "vm"
  local cert = assert(ba.create.sharkcert(vm, ".certificate/MakoServer.pem", ".certificate/MakoServer.key", "sharkssl"))
  local text = ok(vm:open ".certificate/MakoServer.pem"):read "a"
  local info = ba.parsecert(text)
  local names = table.concat(info.san, ";")
  ok(names:find "localhost" and names:find "IP:127.0.0.1")
  ok(ba.parsecerttime(info.tzto) > os.time() + 9 * 365 * 86400)
  eq(ba.openio "vm":open ".certificate/MakoServer.pem":read "a", text, "a second time")
  ok(tostring(cert):find "localhost")
end)

check.job("clean up", function()
  for _, name in ipairs(files) do os.remove(name) end
end)
