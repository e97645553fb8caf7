<?lsp
local n, sum = 0, ba.crypto.hash "sha256"
for data in request:rawrdr() do
  n = n + #data
  sum(data)
end
response:setcontenttype "text/plain"
print(n, sum(true, "hex"))
?>
