-- Certificates and shark objects for tests of TLS. All are made here, so none can expire.
local tls = {}

local function date(days) return os.date("!*t", os.time() + days * 86400) end

-- {cert = PEM, key = PEM}: signed by `by` (such a table), or by itself. names: the SAN; nil for a CA.
function tls.pem(names, by, options)
  options = options or {}
  local key = assert(ba.create.key {key = options.key or "ecc"})
  local ca = not names
  local csr = assert(ba.create.csr(key, {commonname = options.commonname or "test"}, names or "",
                                   {ca and "SSL_CA" or options.type or "SSL_SERVER"},
                                   {ca and "KEY_CERT_SIGN" or "DIGITAL_SIGNATURE"}))
  local from, to = date(options.from or -1), date(options.to or 60)
  local cert
  if by then
    cert = assert(ba.create.certificate(csr, by.cert, by.key, from, to, 2))
  else
    cert = assert(ba.create.certificate(csr, key, from, to, 1))
  end
  return {cert = cert, key = key}
end

tls.ca = tls.pem(nil, nil, {commonname = "Test CA"})
tls.localhost = tls.pem("localhost;IP:127.0.0.1", tls.ca)

function tls.sharkcert(pem) return assert(ba.create.sharkcert(pem.cert, pem.key)) end

-- A store with these authorities; without any: the test's own.
function tls.store(...)
  local store = ba.create.certstore()
  for _, pem in ipairs(select("#", ...) > 0 and {...} or {tls.ca}) do assert(store:addcert(pem.cert)) end
  return store
end

-- A server's shark with these certificates (PEM tables); without any: that of localhost.
function tls.server(options, ...)
  local op = {server = true}
  for k, v in pairs(options or {}) do op[k] = v end
  local store = op.store
  op.store = nil
  local shark = ba.create.sharkssl(store, op)
  for _, pem in ipairs(select("#", ...) > 0 and {...} or {tls.localhost}) do shark:addcert(tls.sharkcert(pem)) end
  return shark
end

-- A client's shark that trusts the test's authority.
function tls.client(options) return ba.create.sharkssl(tls.store(), options) end

return tls
