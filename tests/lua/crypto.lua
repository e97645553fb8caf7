-- ba.crypto.hash (ba-api C.5); the algorithms are tested in C
local check = require "check"
local eq, ok, raises = check.eq, check.ok, check.raises
local hash = ba.crypto.hash

check.job("algorithms and encodings", function()
  eq(type(hash()), "function")
  eq(hash()("abc")(true, "hex"), "a9993e364706816aba3e25717850c26c9cd0d89d", "SHA-1 by default")
  eq(hash "md5" "abc"(true, "hex"), "900150983cd24fb0d6963f7d28e17f72")
  eq(hash "md5" "abc"(true, "b64"), "kAFQmDzST7DWlj99KOF/cg==")
  local binary = hash "md5" "abc"(true)
  eq(#binary, 16)
  eq(hash "md5" "abc"(true, "binary"), binary)
  eq(hash "md5" "abc"(), binary)
  for name, size in pairs {md5 = 16, sha1 = 20, sha256 = 32, sha384 = 48, sha512 = 64} do
    eq(#hash(name)(true), size)
    eq(#hash("hmac", name, "key")(true, "hex"), 2 * size)
  end
  raises("invalid option", hash, "sha3")
  raises("invalid option", hash "md5", true, "base16")
  raises("string expected", hash, {})
end)

check.job("in pieces", function()
  local h = hash "sha256"
  eq(h "a", h, "it returns itself")
  h("b")("c")
  eq(h(true, "hex"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  eq(h(true, "hex"), h(true, "hex"), "asking changes nothing")
  h "d"
  eq(h(true, "hex"), hash "sha256" "abcd"(true, "hex"))
  local other = hash "sha256"
  ok(other ~= h)
  eq(hash "md5"(1)(2.5)(true, "hex"), hash "md5" "12.5"(true, "hex"))
  eq(hash "md5"(ba.bytearray.create "abc")(true, "hex"), hash "md5" "abc"(true, "hex"))
  raises("string expected", h, nil)
  raises("string expected", h, {})
end)

check.job("hmac", function()
  eq(hash("hmac", "md5", "Jefe")("what do ya ")("want for nothing?")(true, "hex"), "750c783e6ab0b503eaa86e310a5db738")
  eq(#hash("hmac", "sha512", ba.clock())("x")(true, "binary"), 64)
  eq(hash("hmac", "sha1", "")("")(true, "hex"), "fbdb1d1b18aa6c08324b7d64b71fb76370690e1d")
  raises("string expected", hash, "hmac")
  raises("string expected", hash, "hmac", "md5")
  raises("invalid option", hash, "hmac", "hmac", "key")
end)

check.job("collected", function()
  for _ = 1, 1000 do hash "sha512" "x" end
  collectgarbage()
  collectgarbage()
end)
