---@meta

-- ba.crypto: digests.

ba.crypto = {}

---A function: f(string) adds it and returns f; f(true [, "binary"|"hex"|"b64"]) and f() give the digest.
---@param algorithm? "md5"|"sha1"|"sha256"|"sha384"|"sha512"|"hmac" default "sha1"
---@param hash? "md5"|"sha1"|"sha256"|"sha384"|"sha512" with "hmac"
---@param key? string with "hmac"
---@return fun(data?: string|boolean, encoding?: "binary"|"hex"|"b64"): any
function ba.crypto.hash(algorithm, hash, key) end
