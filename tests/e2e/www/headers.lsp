<?lsp
response:setheader("X-One", "1")
response:setheader("x-one", "2")
response:setheader("X-Two", "a")
response:setheader("X-Two", "b", true)
response:setheader("X-Gone", "1")
response:setheader("X-Gone", nil)
response:setstatus(299, "Fine")
response:setcontenttype "text/plain"
local ok, err = pcall(response.setheader, response, "X-Bad", "a\r\nX-Smuggled: 1")
print(ok, err)
print(pcall(response.setstatus, response, 42))
local cookie = response:createcookie "taste"
cookie:value "sweet"
cookie:path "/"
cookie:maxage(60)
cookie:activate()
local got = request:cookie "taste"
print("cookie", got and got:value())
print("secure", request:issecure(), "version", request:version(), "domain", request:domain())
print(select("#", request:peername()) >= 2, response:initial(), response:valid())
?>
