---@meta

-- Certificates: reading, making, whom to trust. Errors: notfound, noaccess, and those that begin with pem_.

---@class ba.sharkcert

---A certificate with its key: from files of an io object (io, cert, key, password), from texts (cert, key, password), from files of the
---system (a table: cert, key, password, password_file, ocsp).
---@param ... ba.io|string|table
---@return ba.sharkcert? cert
---@return string? err
---@return string? phrase
function ba.create.sharkcert(...) end

---A list of authorities, empty at first.
---@return ba.certstore
function ba.create.certstore() end

---@class ba.certstore
---@operator len: integer
local Store = {}

---Adds what is trusted: from a file of an io object (io, name), from a text, or {file = path}, {system = true}.
---@param ... ba.io|string|table
---@return integer? added
---@return string? err
---@return string? phrase
function Store:addcert(...) end

---A private key, PEM.
---@param options? {key?: "ecc"|"rsa", bits?: integer, curve?: string}
---@return string? pem
---@return string? err
function ba.create.key(options) end

---A signing request, PEM: (key, dn [, san], certtype, keyusage [, hash]).
---@param key string|{key: string, pwd: string}
---@param dn table
---@param ... any
---@return string? pem
---@return string? err
function ba.create.csr(key, dn, ...) end

---A certificate, PEM: (csr [, cacert], key, from, to, serial [, hash]).
---@param csr string
---@param ... any
---@return string? pem
---@return string? err
function ba.create.certificate(csr, ...) end

---The fields of a certificate: subject, issuer, tzfrom, tzto, serial, key, ca, sha256, san.
---@param data string DER or PEM
---@return table? fields
---@return string? err
function ba.parsecert(data) end

---Seconds since 1970; 0 when it is no time.
---@param text string
---@return integer
function ba.parsecerttime(text) end
