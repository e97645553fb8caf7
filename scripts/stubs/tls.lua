---@meta

-- TLS: shark objects, and what sockets say about their session.

---@class ba.sharkssl.options
---@field server? boolean for bind, and for upgrade by the side that answers; default false
---@field alpn? string "h2,http/1.1"
---@field clientcert? "required"|"optional"|"no"
---@field pins? string[] SHA-256 of public keys, hexadecimal
---@field tickets? boolean
---@field timeout? number ms of the handshake of an accepted socket and of upgrade; default 10000
---@field minversion? "1.2"|"1.3"
---@field maxversion? "1.2"|"1.3"
---@field ciphers? string of TLS 1.2, in OpenSSL's syntax
---@field groups? string "X25519:P-256"
---@field cachesize? integer sessions a client keeps; default 8
---@field choose? fun(hello: table): any a certificate or shark object, nil: the object's own choice, false: refuse
---@field keylog? string name of a file

ba.create = {}

---@param store? ba.certstore|string whom to trust; nil: a client that accepts everybody
---@param options? ba.sharkssl.options
---@return ba.sharkssl? shark
---@return string? err
function ba.create.sharkssl(store, options) end

---One client object for all, which trusts whom the system trusts.
---@return ba.sharkssl
function ba.sharkclient() end

---@class ba.sharkssl
local Shark = {}

---Adds a certificate with its key. A server needs one at least.
---@param cert ba.sharkcert
---@return true? ok
---@return string? err
function Shark:addcert(cert) end

---@class ba.socket
local Socket = {}

---TLS from here on. Waits. Errors: sslhandshake, sslalertrecv, sslcryptoerr, sslnottrusted, timeout, incorrectuse and those of read.
---@param shark ba.sharkssl
---@param options? {host?: string, alpn?: string, trusted?: boolean, timeout?: number}
---@return true? ok
---@return ba.socket.error? err
function Socket:upgrade(shark, options) end

---Whether the peer is who it should be; else nil and "certcn" (only the dates are wrong), "cn" (only the name is right), "cert"
---(only the chain is), "none".
---@param host? string default: the name given to connect
---@return true? ok
---@return "certcn"|"cn"|"cert"|"none"|nil why
function Socket:trusted(host) end

---The peer's chain, and whether it leads to the store; nil without.
---@return table[]? chain
---@return boolean? validated
function Socket:certificate() end

---@return string? cipher
---@return string? protocol "TLSv1.3"
function Socket:cipher() end

---@return boolean
function Socket:isresumed() end

---The protocol agreed on. Extension.
---@return string?
function Socket:alpn() end

---The name asked for. Extension.
---@return string?
function Socket:sni() end

---Sets the bytes of the largest record to send.
---@param n integer 512 to 16384
function Socket:maxsize(n) end

---What a TLS client that has connected here asks for; nothing is consumed. Waits. Extension.
---Errors: notssl, sslhandshake, toomuchdata, timeout and those of read.
---@param ms? number for the whole message
---@return {sni?: string, alpn: string[], versions: string[]}? hello
---@return ba.socket.error? err
function Socket:clienthello(ms) end
