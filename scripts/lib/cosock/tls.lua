-- TLS objects from the words of a configuration. Every file is read now, while the script loads: a reload reads them
-- again, and a bad one fails the load with its name.
local duration = require "cosock.duration"

local tls = {}

local function must(value, err, text)
  return value or error(text or err, 0)
end

local function list(value)
  return type(value) == "table" and value or {value}
end

-- A misspelt word must not switch off a check.
local function check(what, options, ...)
  local known = {}
  for _, names in ipairs {...} do
    for name in names:gmatch "%S+" do known[name] = true end
  end
  for name in pairs(options) do
    if not known[name] then error(("%s: unknown key %q"):format(what, tostring(name)), 0) end
  end
end

local PAIR = "cert key password password_file ocsp"
local SHARK = "alpn minversion maxversion ciphers groups tickets pins keylog"

local function shark_options(options)
  local copy = {timeout = options.timeout and duration(options.timeout)}
  for name in SHARK:gmatch "%S+" do copy[name] = options[name] end
  return copy
end

-- Adds the pair that stands in the options themselves, then those of their list.
local function add_pairs(shark, options)
  local pairs_ = {table.unpack(options.certs or {})}
  if options.cert then table.insert(pairs_, 1, options) end
  for _, pair in ipairs(pairs_) do
    shark:addcert(must(ba.create.sharkcert {cert = pair.cert, key = pair.key, password = pair.password,
                                            password_file = pair.password_file, ocsp = pair.ocsp}))
  end
  return #pairs_
end

local function store(authorities, revoked)
  local s = ba.create.certstore()
  for _, file in ipairs(list(authorities)) do
    must(s:addcert(file == "system" and {system = true} or {file = file}))
  end
  for _, file in ipairs(list(revoked)) do must(s:addcert {file = file}) end
  return s
end

-- For listening: the option `shark` of ba.socket.bind.
-- cert, key, password_file, ocsp   files of a certificate (with its chain behind it)
-- certs                            a list of such tables: chosen by the name that the client asks for, else the first
-- client_ca, client_crl            files, or lists of them: clients must show a certificate of these authorities
-- clientcert                       "optional": they may
-- alpn, minversion, maxversion, ciphers, groups, tickets, pins, keylog, timeout: see ba.create.sharkssl
function tls.server(options)
  check("tls", options, PAIR, SHARK, "certs client_ca client_crl clientcert timeout")
  local op = shark_options(options)
  op.server, op.clientcert = true, options.clientcert
  local shark = must(ba.create.sharkssl(options.client_ca and store(options.client_ca, options.client_crl), op))
  if add_pairs(shark, options) == 0 then error("tls: no cert", 0) end
  return shark
end

-- For connecting: options for ba.socket.connect.
-- ca, crl      files, or lists of them; "system" (default) is whom the system trusts
-- verify       false: any peer is good
-- host         the name that the upstream must have, and is asked for (default: the host of its address)
-- cert, key, password_file   what to show an upstream that asks
-- alpn, minversion, maxversion, ciphers, groups, tickets, pins, keylog: see ba.create.sharkssl
function tls.client(options)
  check("upstream_tls", options, PAIR, SHARK, "ca crl verify host")
  local verify = options.verify ~= false
  local trusted = verify and store(options.ca or "system", options.crl) or nil
  local shark = must(ba.create.sharkssl(trusted, shark_options(options)))
  add_pairs(shark, options)
  return {shark = shark, trusted = verify, host = options.host}
end

return tls
