-- TLS objects from the words of a configuration. Every file is read now, while the script loads: a reload reads them
-- again, and a bad one fails the load with its name.
local options = require "cosock.options"

local tls = {}

local function must(value, err, text)
  return value or error(text or err, 0)
end

local PAIR = "cert key password password_file ocsp"
local SHARK = "alpn minversion maxversion ciphers groups tickets pins keylog"

local function shark_options(given)
  local copy = {timeout = given.timeout and options.duration(given, "timeout")}
  for name in SHARK:gmatch "%S+" do copy[name] = given[name] end
  return copy
end

-- Adds the pair that stands in the options themselves, then those of their list.
local function add_pairs(shark, given)
  local certs = options.list("certs", given.certs)
  for i, pair in ipairs(certs) do options.check(("tls: certs[%d]"):format(i), pair, PAIR) end
  local pairs_ = {table.unpack(certs)}
  if given.cert then table.insert(pairs_, 1, given) end
  for _, pair in ipairs(pairs_) do
    shark:addcert(must(ba.create.sharkcert {cert = pair.cert, key = pair.key, password = pair.password,
                                            password_file = pair.password_file, ocsp = pair.ocsp}))
  end
  return #pairs_
end

local function must_not_be_alone(what, given, name, other)
  if given[name] and not given[other] then error(("%s: %s without %s"):format(what, name, other), 0) end
end

local function store(authorities, revoked)
  local s = ba.create.certstore()
  for _, file in ipairs(options.list("ca", authorities)) do
    must(s:addcert(file == "system" and {system = true} or {file = file}))
  end
  for _, file in ipairs(options.list("crl", revoked)) do must(s:addcert {file = file}) end
  return s
end

-- For listening: the option `shark` of ba.socket.bind.
-- cert, key, password_file, ocsp   files of a certificate (with its chain behind it)
-- certs                            a list of such tables: chosen by the name that the client asks for, else the first
-- client_ca, client_crl            files, or lists of them: clients must show a certificate of these authorities
-- clientcert                       "optional": they may
-- alpn, minversion, maxversion, ciphers, groups, tickets, pins, keylog, timeout: see ba.create.sharkssl
function tls.server(given)
  options.check("tls", given, PAIR .. " " .. SHARK .. " certs client_ca client_crl clientcert timeout")
  must_not_be_alone("tls", given, "client_crl", "client_ca")
  local op = shark_options(given)
  op.server, op.clientcert = true, given.clientcert
  local shark = must(ba.create.sharkssl(given.client_ca and store(given.client_ca, given.client_crl), op))
  if add_pairs(shark, given) == 0 then error("tls: no cert", 0) end
  return shark
end

-- For connecting: options for ba.socket.connect.
-- ca, crl      files, or lists of them; "system" (default) is whom the system trusts
-- verify       false: any peer is good
-- host         the name that the upstream must have, and is asked for (default: the host of its address)
-- cert, key, password_file   what to show an upstream that asks
-- alpn, minversion, maxversion, ciphers, groups, tickets, pins, keylog: see ba.create.sharkssl
function tls.client(given)
  options.check("upstream_tls", given, PAIR .. " " .. SHARK .. " ca crl verify host")
  must_not_be_alone("upstream_tls", given, "key", "cert")
  local verify = given.verify ~= false
  local trusted = verify and store(given.ca or "system", given.crl) or nil
  local shark = must(ba.create.sharkssl(trusted, shark_options(given)))
  add_pairs(shark, given)
  return {shark = shark, trusted = verify, host = given.host}
end

return tls
