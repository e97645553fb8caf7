<?lsp
response:setcontenttype "text/plain"
print("method", request:method())
print("a", request:data "a")
print("a b", request:data("a", "b"))
for name, value in request:datapairs() do print("pair", name, value) end
local all = request:data()
print("all", type(all.b) == "table" and table.concat(all.b, "+") or all.b)
?>
